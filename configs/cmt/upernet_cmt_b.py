# CMT-B, ADE20K, 160k steps. The paper gives no result of this size.
_base_ = './upernet_cmt_s.py'

model = dict(
    backbone=dict(
        arch='b',
        drop_path_rate=0.25,
        init_cfg=dict(type='Pretrained', checkpoint='cmt_base'),
    ),
    decode_head=dict(in_channels=[76, 152, 304, 608]),
    auxiliary_head=dict(in_channels=304),
)
