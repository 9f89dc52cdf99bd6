# STA-X over DINOv3-S+, whose feed-forward networks are gated.
_base_ = './maskrcnn_sta_l.py'

model = dict(
    backbone=dict(arch='x', init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16plus')),
    neck=dict(in_channels=[256] * 4),
)
