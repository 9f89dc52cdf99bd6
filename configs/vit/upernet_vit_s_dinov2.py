# Plain ViT-S with DINOv2 weights, ADE20K: upernet_vitcomer_s_dinov2.py without its adapter.
_base_ = './upernet_vit_s.py'

model = dict(
    backbone=dict(
        pretrain_size=592,
        layer_scale=1.0,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vits14'),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.70))
