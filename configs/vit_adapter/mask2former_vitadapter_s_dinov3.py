# Mask2Former, ViT-Adapter-S with DINOv3 weights, which are handed out on request (docs/weights.md), ADE20K,
# 160k steps with the recipe of Mask2Former itself. There are no published figures.
# `vit=dinov3_b`, or --weights, makes it another size (docs/dinov3.md has the rates of B and L).
_base_ = [
    '../_base_/models/mask2former.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_mask2former_160k.py',
    '../_base_/mmseg_runtime.py',
]

vit = 'dinov3_s'
model = dict(
    backbone=dict(
        type='mmhybrid.ViTAdapter',
        arch='s_seg',
        drop_path_rate=0.2,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
        vit=dict(arch='dinov3_s', class_token=True),
    ),
    decode_head=dict(in_channels=[384] * 4),
)
