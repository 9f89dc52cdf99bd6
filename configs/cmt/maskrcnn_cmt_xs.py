# CMT-XS, COCO 1x. The paper gives no result of this size.
_base_ = './maskrcnn_cmt_s.py'

model = dict(
    backbone=dict(arch='xs', init_cfg=dict(type='Pretrained', checkpoint='cmt_xs')),
    neck=dict(in_channels=[52, 104, 208, 416]),
)
