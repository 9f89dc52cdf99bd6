# CMT-B, COCO 1x. The paper gives no result of this size.
_base_ = './retinanet_cmt_s.py'

model = dict(
    backbone=dict(
        arch='b',
        drop_path_rate=0.25,
        init_cfg=dict(type='Pretrained', checkpoint='cmt_base'),
    ),
    neck=dict(in_channels=[76, 152, 304, 608]),
)
