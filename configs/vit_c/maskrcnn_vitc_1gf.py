# ViT_C-1GF, COCO 1x.
_base_ = './maskrcnn_vitc_4gf.py'

model = dict(backbone=dict(arch='c_1gf'), neck=dict(in_channels=192))
