# ViT-Adapter-B with DeiT weights, COCO 3x, as published: 49.6 box AP and 43.6 mask AP.
_base_ = './maskrcnn_vitadapter_t_3x.py'

model = dict(
    backbone=dict(
        arch='b',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='deit_base_patch16_224'),
    ),
    neck=dict(in_channels=[768] * 4),
)
