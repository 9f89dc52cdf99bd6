# Mask R-CNN, SPACH-Hybrid-MS-S, COCO 1x. The authors publish no detectors: the optimizer is that of
# MMDetection's Swin configs, the drop path the classifier's.
_base_ = [
    '../_base_/models/mask_rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.SPACH',
        arch='ms_s_hybrid',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='spach_ms_hybrid_s'),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
train_pipeline = {{_base_.single_scale_pipeline}}
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
