# ViT-Adapter-L with BEiT weights, COCO-Stuff 164k, as published: 51.7 mIoU, single scale, and 52.0,
# multi-scale.
_base_ = './mask2former_vitadapter_l_cocostuff.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='beit_large_patch16_224_pt22k_ft22k'))
)
