# ViT-Adapter-B with DeiT weights.
_base_ = './retinanet_vitadapter_t.py'

model = dict(
    backbone=dict(
        arch='b',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='deit_base_patch16_224'),
    ),
    neck=dict(in_channels=[768] * 3),
)
