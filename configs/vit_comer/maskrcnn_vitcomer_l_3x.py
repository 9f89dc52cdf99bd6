# ViT-CoMer-L with DINOv2 weights, COCO 3x: 55.9 box AP and 49.1 mask AP (arXiv 2403.07392, Table
# 1). The recipe is that of maskrcnn_vitcomer_l.py.
_base_ = '../maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        arch='l',
        windows=[14, 14, 14, 14, 14, 0],
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vitl14'),
    ),
    neck=dict(in_channels=[1024] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
