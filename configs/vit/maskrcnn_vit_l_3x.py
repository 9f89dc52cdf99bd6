# COCO 3x: 48.3 box AP and 43.4 mask AP, with a pyramid of the authors' own (arXiv 2403.07392, Table
# 1; ViT-Adapter's table prints 43.3).
_base_ = './maskrcnn_vit_l.py'

train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
