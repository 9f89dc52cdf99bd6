# STA around DINOv2's ViT-S, its maps as wide, in the study of small data; README.md.
_base_ = ['../../_base_/models/upernet_small.py', '../../_base_/custom_semantic.py']

_vit = dict(arch='dinov2_s', patch_size=16, pretrain_size=592, class_token=True)
model = dict(
    backbone=dict(
        type='mmhybrid.STA', arch=dict(vit='dinov2_s'), vit=_vit, out_indices=[0, 1, 2, 3]
    ),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384),
)
