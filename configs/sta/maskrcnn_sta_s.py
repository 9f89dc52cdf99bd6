# STA-S over ViT-Tiny with rotary positions, see retinanet_sta_s.py.
_base_ = './maskrcnn_sta_l.py'

model = dict(
    backbone=dict(arch='s', init_cfg=dict(type='Pretrained', checkpoint='vitt_distill')),
    neck=dict(in_channels=[192] * 4),
)
