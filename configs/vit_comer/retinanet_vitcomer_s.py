# ViT-CoMer-S with DINOv2 weights.
_base_ = './retinanet_vitcomer_b.py'

model = dict(
    backbone=dict(
        arch='s',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vits14'),
    ),
    neck=dict(in_channels=[384] * 3),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.70))
