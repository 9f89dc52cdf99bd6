# DINOv2's ViT-S and a simple pyramid as wide as the maps of adapters, in the study of small data;
# README.md.
_base_ = ['../../_base_/models/upernet_small.py', '../../_base_/custom_semantic.py']

_vit = dict(arch='dinov2_s', patch_size=16, pretrain_size=592, class_token=True)
model = dict(
    backbone=dict(type='mmhybrid.ViT', final_norm=True, **_vit),
    neck=dict(type='mmhybrid.SimplePyramid', in_channels=384, out_channels=384),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384),
)
