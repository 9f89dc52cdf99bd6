# ViT-Adapter-L with DINOv2 weights, COCO 3x, as published: 55.3 box AP and 49.0 mask AP.
_base_ = './maskrcnn_vitadapter_t_3x.py'

model = dict(
    backbone=dict(
        arch='l',
        vit=dict(pretrain_size=592),
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vitl14'),
    ),
    neck=dict(in_channels=[1024] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65, no_decay=()))
