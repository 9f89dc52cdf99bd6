# ViT-Adapter-L with BEiT weights, ADE20K at 896 pixels, 80k steps, beginning with a model of
# COCO-Stuff, as published: 59.4 mIoU, single scale, and 60.5, multi-scale.
_base_ = './mask2former_vitadapter_l.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='beit_large_patch16_224_pt22k_ft22k'))
)
