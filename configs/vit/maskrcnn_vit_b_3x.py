# Plain ViT-B with DeiT weights, COCO 3x: 45.8 box AP and 41.3 mask AP, with a pyramid of the
# authors' own (arXiv 2403.07392, Table 1).
_base_ = './maskrcnn_vit_b.py'

train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
