# CvT-21, COCO 1x.
_base_ = './maskrcnn_cvt_13.py'

model = dict(
    backbone=dict(
        arch='21',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CvT-21-224x224-IN-1k.pth'),
    )
)
