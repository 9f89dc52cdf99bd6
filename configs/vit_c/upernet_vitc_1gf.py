# ViT_C-1GF, ADE20K.
_base_ = './upernet_vitc_4gf.py'

model = dict(backbone=dict(arch='c_1gf'), neck=dict(in_channels=192))
