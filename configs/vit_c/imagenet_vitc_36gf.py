# ViT_C-36GF on ImageNet, as published: 83.2 top-1.
_base_ = './imagenet_vitc_4gf.py'

model = dict(backbone=dict(arch='c_36gf'))
optim_wrapper = dict(optimizer=dict(lr=6e-4, weight_decay=0.28))
