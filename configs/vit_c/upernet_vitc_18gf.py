# ViT_C-18GF, ADE20K.
_base_ = './upernet_vitc_4gf.py'

model = dict(backbone=dict(arch='c_18gf', drop_path_rate=0.3), neck=dict(in_channels=768))
