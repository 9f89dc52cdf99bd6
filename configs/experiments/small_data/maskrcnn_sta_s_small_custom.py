# Mask R-CNN with STA around DINOv2's ViT-S in the study of small data; README.md.
_base_ = ['../../_base_/models/mask_rcnn_small.py', '../../_base_/custom_instance.py']

_vit = dict(arch='dinov2_s', patch_size=16, pretrain_size=592, class_token=True)
model = dict(
    backbone=dict(
        type='mmhybrid.STA', arch=dict(vit='dinov2_s'), vit=_vit, out_indices=[0, 1, 2, 3]
    ),
    neck=dict(in_channels=[384] * 4),
)
