# ViT_P-1GF on ImageNet, as published: 72.3 top-1.
_base_ = './imagenet_vitc_4gf.py'

model = dict(backbone=dict(arch='p_1gf'))
