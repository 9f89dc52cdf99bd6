# DINO, CMT-Ti, COCO, 12 epochs with multi-scale crops. There are no published figures; the recipe
# is that of DINO itself.
_base_ = [
    '../_base_/models/dino.py',
    '../_base_/datasets/coco_detection_multi_scale.py',
    '../_base_/schedules/coco_dino_1x.py',
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
    neck=dict(in_channels=[92, 184, 368]),
)
