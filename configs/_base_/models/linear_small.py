# A linear head on four maps of width 384, with plain batch norm: for training on CPUs.
_base_ = './linear_segmentor.py'

model = dict(
    neck=dict(in_channels=[384] * 4, norm_cfg=dict(type='BN')),
    decode_head=dict(in_channels=[384] * 4, channels=4 * 384, in_index=[0, 1, 2, 3]),
    test_cfg=dict(_delete_=True, mode='whole'),
)
