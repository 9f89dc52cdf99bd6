# ViT-Adapter-S with DINOv2 weights, COCO 3x, as published: 51.5 box AP and 45.6 mask AP.
_base_ = './maskrcnn_vitadapter_t_3x.py'

model = dict(
    backbone=dict(
        arch='s',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vits14'),
        vit=dict(pretrain_size=592),
    ),
    neck=dict(in_channels=[384] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.70, no_decay=()))
