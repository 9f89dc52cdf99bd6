# ViT_C-18GF on ImageNet, as published: 83.0 top-1.
_base_ = './imagenet_vitc_4gf.py'

model = dict(backbone=dict(arch='c_18gf'))
