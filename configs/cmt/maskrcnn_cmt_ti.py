# CMT-Ti, COCO 1x. The paper gives no result of this size.
_base_ = './maskrcnn_cmt_s.py'

model = dict(
    backbone=dict(arch='ti', init_cfg=dict(type='Pretrained', checkpoint='cmt_tiny')),
    neck=dict(in_channels=[46, 92, 184, 368]),
)
