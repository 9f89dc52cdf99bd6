# Plain ViT-S with DeiT weights, COCO 3x: 44.0 box AP and 39.9 mask AP, with a pyramid of the
# authors' own (arXiv 2403.07392, Table 1). The recipe is that of maskrcnn_vit_s.py.
_base_ = './maskrcnn_vit_b.py'

model = dict(
    backbone=dict(arch='s', init_cfg=dict(type='Pretrained', checkpoint='deit_small_patch16_224')),
    neck=dict(in_channels=384),
)
train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
