# ATSS, CMT-Ti, COCO 1x at one scale. There are no published figures; the recipe is that of
# retinanet_cmt_s.py.
_base_ = [
    '../_base_/models/atss_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.CMT',
        arch='ti',
        out_indices=[1, 2, 3],  # the head begins at stride 8
        drop_path_rate=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='cmt_tiny'),
    ),
    neck=dict(in_channels=[92, 184, 368], start_level=0),
)
