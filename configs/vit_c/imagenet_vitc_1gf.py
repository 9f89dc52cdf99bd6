# ViT_C-1GF on ImageNet, as published: 75.3 top-1.
_base_ = './imagenet_vitc_4gf.py'

model = dict(backbone=dict(arch='c_1gf'))
