# Plain ViT-S with DeiT weights, COCO 1x. ViT-CoMer's table gives 40.2 box AP and 37.1 mask AP.
_base_ = './maskrcnn_vit_b.py'

model = dict(
    backbone=dict(arch='s', init_cfg=dict(type='Pretrained', checkpoint='deit_small_patch16_224')),
    neck=dict(in_channels=384),
)
