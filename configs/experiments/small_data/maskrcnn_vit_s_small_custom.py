# Mask R-CNN with DINOv2's ViT-S and a simple pyramid, as wide as the feature pyramid of the others,
# in the study of small data; README.md.
_base_ = ['../../_base_/models/mask_rcnn_small.py', '../../_base_/custom_instance.py']

_vit = dict(arch='dinov2_s', patch_size=16, pretrain_size=592, class_token=True)
model = dict(
    backbone=dict(type='mmhybrid.ViT', final_norm=True, **_vit),
    neck=dict(
        _delete_=True,
        type='mmhybrid.SimplePyramid',
        in_channels=384,
        out_channels={{_base_.width}},
        strides=[4, 8, 16, 32, 64],
    ),
)
