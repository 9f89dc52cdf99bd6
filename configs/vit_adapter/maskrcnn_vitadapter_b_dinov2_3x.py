# ViT-Adapter-B with DINOv2 weights, COCO 3x, as published: 54.1 box AP and 47.8 mask AP.
_base_ = './maskrcnn_vitadapter_t_3x.py'

model = dict(
    backbone=dict(
        arch='b',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vitb14'),
        vit=dict(pretrain_size=592),
    ),
    neck=dict(in_channels=[768] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.60, no_decay=()))
