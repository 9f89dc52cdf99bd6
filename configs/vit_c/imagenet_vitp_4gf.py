# ViT_P-4GF on ImageNet, as published: 80.4 top-1.
_base_ = './imagenet_vitc_4gf.py'

model = dict(backbone=dict(arch='p_4gf'))
