# ViT-Adapter-S with DeiT weights.
_base_ = './retinanet_vitadapter_t.py'

model = dict(
    backbone=dict(
        arch='s',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='deit_small_patch16_224'),
    ),
    neck=dict(in_channels=[384] * 3),
)
