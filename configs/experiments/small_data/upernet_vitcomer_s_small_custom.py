# ViT-CoMer-S around DINOv2's ViT-S in the study of small data; README.md has its rows. UPerNet is
# narrow, crops are small, and a step has four of them, so that a CPU trains it.
_base_ = ['../../_base_/models/upernet_small.py', '../../_base_/custom_semantic.py']

image_size = (480, 360)
crop_size = (192, 192)
_vit = dict(arch='dinov2_s', patch_size=16, pretrain_size=592, class_token=True)
model = dict(
    backbone=dict(type='mmhybrid.ViTCoMer', arch='s_seg', vit=_vit),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384),
)
