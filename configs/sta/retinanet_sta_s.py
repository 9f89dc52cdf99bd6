# STA-S over ViT-Tiny with rotary positions, which its authors distilled from DINOv3 and give out at
# the address that docs/models/sta.md names.
_base_ = './retinanet_sta_l.py'

model = dict(
    backbone=dict(arch='s', init_cfg=dict(type='Pretrained', checkpoint='vitt_distill')),
    neck=dict(in_channels=[192] * 3),
)
