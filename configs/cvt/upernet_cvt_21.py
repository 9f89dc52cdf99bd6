# CvT-21, ADE20K.
_base_ = './upernet_cvt_13.py'

model = dict(
    backbone=dict(
        arch='21',
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CvT-21-224x224-IN-1k.pth'),
    )
)
