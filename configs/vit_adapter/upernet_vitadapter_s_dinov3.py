# ViT-Adapter-S with DINOv3 weights, which are handed out on request (docs/weights.md); attention is
# global here, so that class and register tokens stay. There are no published figures.
# `vit=dinov3_b`, or --weights, makes it another size (docs/dinov3.md has the rates of B and L).
_base_ = './upernet_vitadapter_t.py'

vit = 'dinov3_s'
model = dict(
    backbone=dict(
        arch='s_seg',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
        vit=dict(arch='dinov3_s', class_token=True),
    ),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(optimizer=dict(lr=6e-5), paramwise_cfg=dict(layer_decay_rate=0.70))
