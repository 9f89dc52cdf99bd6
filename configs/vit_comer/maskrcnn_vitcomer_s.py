# ViT-CoMer-S with DINOv2 weights, COCO 1x, as published: 48.6 box AP and 42.9 mask AP.
_base_ = '../maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        arch='s',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vits14'),
    ),
    neck=dict(in_channels=[384] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.70))
