# Mask2Former for panoptic segmentation, CMT-Ti, COCO, 36 epochs with multi-scale crops. There are
# no published figures.
_base_ = [
    '../_base_/models/mask2former_panoptic.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/coco_mask2former_3x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.CMT',
        arch='ti',
        drop_path_rate=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='cmt_tiny'),
    ),
    panoptic_head=dict(in_channels=[46, 92, 184, 368]),
)
