# CMT-XS, ADE20K, 160k steps. The paper gives no result of this size.
_base_ = './upernet_cmt_s.py'

model = dict(
    backbone=dict(arch='xs', init_cfg=dict(type='Pretrained', checkpoint='cmt_xs')),
    decode_head=dict(in_channels=[52, 104, 208, 416]),
    auxiliary_head=dict(in_channels=208),
)
