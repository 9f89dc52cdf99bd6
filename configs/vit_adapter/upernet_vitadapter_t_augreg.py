# ViT-Adapter-T with AugReg weights (ImageNet-22K, then 1K), as published: 43.9 mIoU, single scale;
# in mixed precision, and with ImageNet's mean although these weights saw pixels from -1 to 1.
_base_ = './upernet_vitadapter_t.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='augreg_vit_tiny_patch16_224'))
)
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=dict(init_scale=512.0))
