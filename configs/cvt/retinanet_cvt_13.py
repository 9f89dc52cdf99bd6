# RetinaNet, CvT-13, COCO 1x at one scale. Of strides 8 to 128, convolutions in the pyramid add
# those beyond 16. For the weights see maskrcnn_cvt_13.py.
_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.CvT',
        arch='13',
        out_indices=[1, 2],
        drop_path_rate=0.1,
        proj_norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CvT-13-224x224-IN-1k.pth'),
    ),
    neck=dict(in_channels=[192, 384], start_level=0),
)
