# ViT_P-18GF on ImageNet, as published: 82.1 top-1.
_base_ = './imagenet_vitc_4gf.py'

model = dict(backbone=dict(arch='p_18gf'))
