# ViT-CoMer-B with DINOv2 weights, COCO 3x. The authors' table gives 54.2 box AP and 47.6 mask AP.
_base_ = '../maskrcnn_vitcomer_b.py'

train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
