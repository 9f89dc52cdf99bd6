# ViT-CoMer-S with DINOv3 weights, which are handed out on request (docs/weights.md). Windows have no
# place for the register tokens: they are left out. There are no published figures.
# `vit=dinov3_b`, or --weights, makes it another size (docs/dinov3.md has the rates of B and L).
_base_ = './retinanet_vitcomer_b.py'

vit = 'dinov3_s'
model = dict(
    backbone=dict(
        arch='s',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
        vit=dict(_delete_=True, arch='dinov3_s', num_registers=0),
    ),
    neck=dict(in_channels=[384] * 3),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.70))
