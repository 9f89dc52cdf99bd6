# A linear head on the last map of plain ViT-S with DINOv3 weights, frozen, Cityscapes, 40k steps, with
# the rates on ADE20K.
_base_ = [
    '../_base_/backbones/vit_frozen.py',
    '../_base_/models/linear_segmentor.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/linear_40k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone={{_base_._backbone}},
    neck=dict(in_channels=[384]),
    decode_head=dict(in_channels=[384], channels=384, num_classes=19),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride=(341, 683)),
)
