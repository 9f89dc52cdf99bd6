# ViT_C-36GF, ADE20K.
_base_ = './upernet_vitc_4gf.py'

model = dict(backbone=dict(arch='c_36gf', drop_path_rate=0.4), neck=dict(in_channels=1024))
