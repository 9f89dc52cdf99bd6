# Mask R-CNN, CMT-S, COCO 1x at one scale, as in the paper: 44.6 box AP and 40.7 mask AP (arXiv
# 2107.06263, Table 7). Learning rate, weight decay and drop path as in retinanet_cmt_s.py.
_base_ = [
    '../_base_/models/mask_rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
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
)
train_pipeline = {{_base_.single_scale_pipeline}}
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
