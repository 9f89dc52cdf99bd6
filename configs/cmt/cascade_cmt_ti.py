# Cascade Mask R-CNN, CMT-Ti, COCO 1x at one scale. There are no published figures; the recipe is
# that of retinanet_cmt_s.py.
_base_ = [
    '../_base_/models/cascade_mask_rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x.py',
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
    neck=dict(in_channels=[46, 92, 184, 368]),
)
train_pipeline = {{_base_.single_scale_pipeline}}
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
