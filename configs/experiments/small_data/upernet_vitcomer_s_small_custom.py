# ViT-CoMer-S around DINOv2's ViT-S in the study of small data; README.md.
_base_ = ['../../_base_/models/upernet_small.py', '../../_base_/custom_semantic.py']

_vit = dict(arch='dinov2_s', patch_size=16, pretrain_size=592, class_token=True)
model = dict(
    backbone=dict(type='mmhybrid.ViTCoMer', arch='s_seg', vit=_vit),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384),
)
