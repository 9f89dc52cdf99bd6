# ViT-Adapter-B with DeiT weights, as published: 52.1 box AP and 44.8 mask AP.
_base_ = './cascade_vitadapter_s_3x.py'

model = dict(
    backbone=dict(
        arch='b',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='deit_base_patch16_224'),
    ),
    neck=dict(in_channels=[768] * 4),
)
