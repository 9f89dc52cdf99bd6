# ATSS, STA-L over DINOv3-S, COCO 1x at one scale. There are no published figures; the recipe is
# that of retinanet_sta_l.py.
_base_ = [
    '../_base_/models/atss_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_sta_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.STA',
        arch='l',
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
    ),
    neck=dict(in_channels=[224] * 3, start_level=0),
)
