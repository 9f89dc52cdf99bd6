# SPACH-Conv-MS-XXS.
_base_ = './retinanet_spach_s.py'

model = dict(
    backbone=dict(
        arch='ms_xxs_conv',
        init_cfg=dict(type='Pretrained', checkpoint='spach_ms_conv_xxs'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
