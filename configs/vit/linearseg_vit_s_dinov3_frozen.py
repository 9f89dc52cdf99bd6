# A linear head on the last map of plain ViT-S with DINOv3 weights, frozen, ADE20K, 40k steps: how the
# authors evaluate their features. With other weights the same config is every size, from 47.0 mIoU of
# S to 55.9 of 7B (docs/dinov3.md):
#
#   python tools/train.py linearseg_vit_s_dinov3_frozen --weights dinov3_vitl16
_base_ = [
    '../_base_/backbones/vit_frozen.py',
    '../_base_/models/linear_segmentor.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/linear_40k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone={{_base_._backbone}},
    neck=dict(in_channels=[384]),
    decode_head=dict(in_channels=[384], channels=384),
)
