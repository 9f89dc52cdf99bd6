# RetinaNet, CMT-S, Pascal VOC 07+12: 4 epochs, each of three times the images, 16 a step (8 GPUs x
# 2). There are no published figures; rates are those on COCO.
_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/datasets/voc_detection.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.CMT',
        arch='s',
        drop_path_rate=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='cmt_small'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
    bbox_head=dict(num_classes=20),
)

train_cfg = dict(max_epochs=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=4, by_epoch=True, milestones=[3], gamma=0.1),
]
