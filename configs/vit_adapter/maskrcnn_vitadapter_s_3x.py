# ViT-Adapter-S with DeiT weights, COCO 3x, as published: 48.2 box AP and 42.8 mask AP.
_base_ = './maskrcnn_vitadapter_t_3x.py'

model = dict(
    backbone=dict(
        arch='s',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='deit_small_patch16_224'),
    ),
    neck=dict(in_channels=[384] * 4),
)
