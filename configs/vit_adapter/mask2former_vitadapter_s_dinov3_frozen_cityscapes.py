# Mask2Former, ViT-Adapter-S over a frozen ViT-S with DINOv3 weights, Cityscapes, 160k steps, with the recipe on
# ADE20K. There are no published figures.
_base_ = [
    '../_base_/backbones/vitadapter_frozen.py',
    '../_base_/models/mask2former.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/ade20k_mask2former_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone={{_base_._backbone}},
    decode_head=dict(
        in_channels=[384] * 4,
        num_classes=19,
        loss_cls=dict(class_weight=[1.0] * 19 + [0.1]),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(backbone_lr_mult=1.0))
