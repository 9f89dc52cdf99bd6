# ViT-Adapter-L with DINOv2 weights, COCO 3x, as published: 55.3 box AP and 49.0 mask AP.
_base_ = './maskrcnn_vitadapter_l_3x.py'

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        vit=dict(pretrain_size=592),
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vitl14'),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65, no_decay=()))
