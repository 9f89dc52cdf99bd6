# CvT-W24, COCO 1x.
_base_ = './retinanet_cvt_13.py'

model = dict(
    backbone=dict(
        arch='w24',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CvT-w24-384x384-IN-22k.pth'),
    ),
    neck=dict(in_channels=[768, 1024]),
)
