# Plain ViT-T with DeiT weights, COCO 1x.
_base_ = './retinanet_vit_b.py'

model = dict(
    backbone=dict(arch='t', init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224')),
    neck=dict(in_channels=192),
)
