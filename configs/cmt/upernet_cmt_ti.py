# CMT-Ti, ADE20K, 160k steps. The paper gives no result of this size.
_base_ = './upernet_cmt_s.py'

model = dict(
    backbone=dict(arch='ti', init_cfg=dict(type='Pretrained', checkpoint='cmt_tiny')),
    decode_head=dict(in_channels=[46, 92, 184, 368]),
    auxiliary_head=dict(in_channels=184),
)
