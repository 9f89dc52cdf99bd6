# ViT-Adapter-S with DINOv3 weights, which are handed out on request (docs/weights.md). Windows have no
# place for the register tokens: they are left out. There are no published figures.
# `vit=dinov3_b`, or --weights, makes it another size (docs/dinov3.md has the rates of B and L).
_base_ = './maskrcnn_vitadapter_t.py'

vit = 'dinov3_s'
model = dict(
    backbone=dict(
        arch='s',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
        vit=dict(arch='dinov3_s', num_registers=0),
    ),
    neck=dict(in_channels=[384] * 4),
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.70, no_decay=()),
)
