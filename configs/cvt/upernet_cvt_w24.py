# CvT-W24, ADE20K.
_base_ = './upernet_cvt_13.py'

model = dict(
    backbone=dict(
        arch='w24',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CvT-w24-384x384-IN-22k.pth'),
    ),
    decode_head=dict(in_channels=[192, 768, 1024]),
    auxiliary_head=dict(in_channels=1024),
)
