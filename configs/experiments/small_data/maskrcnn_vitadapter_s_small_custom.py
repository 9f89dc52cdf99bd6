# Mask R-CNN with ViT-Adapter-S around DINOv2's ViT-S in the study of small data; README.md.
_base_ = ['../../_base_/models/mask_rcnn_small.py', '../../_base_/custom_instance.py']

_vit = dict(arch='dinov2_s', patch_size=16, pretrain_size=592, class_token=True)
model = dict(
    backbone=dict(type='mmhybrid.ViTAdapter', arch='s_seg', vit=_vit),
    neck=dict(in_channels=[384] * 4),
)
