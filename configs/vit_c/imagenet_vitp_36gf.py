# ViT_P-36GF on ImageNet, as published: 81.8 top-1.
_base_ = './imagenet_vitc_4gf.py'

model = dict(backbone=dict(arch='p_36gf'))
optim_wrapper = dict(optimizer=dict(lr=6e-4, weight_decay=0.28))
