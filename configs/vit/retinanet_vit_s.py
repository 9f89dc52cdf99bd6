# Plain ViT-S with DeiT weights, COCO 1x.
_base_ = './retinanet_vit_b.py'

model = dict(
    backbone=dict(arch='s', init_cfg=dict(type='Pretrained', checkpoint='deit_small_patch16_224')),
    neck=dict(in_channels=384),
)
