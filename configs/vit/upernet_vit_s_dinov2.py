# Plain ViT-S with DINOv2 weights, ADE20K: upernet_vitcomer_s_dinov2.py without its adapter.
_base_ = './upernet_vit_b.py'

model = dict(
    backbone=dict(
        arch='s',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vits14'),
        pretrain_size=592,
        layer_scale=1.0,
    ),
    neck=dict(in_channels=384),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.70))
