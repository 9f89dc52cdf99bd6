# Plain ViT-T with DeiT weights, COCO 1x. ViT-CoMer's table gives 35.5 box AP and 33.5 mask AP.
_base_ = './maskrcnn_vit_b.py'

model = dict(
    backbone=dict(arch='t', init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224')),
    neck=dict(in_channels=192),
)
