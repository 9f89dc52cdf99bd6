# A linear head on four maps of a frozen ViT, after each quarter of its blocks, on your own images, each
# with a mask of class numbers: minutes on a CPU. The weights tell the ViT:
#
#   python tools/train.py configs/linearseg_vit_s_frozen_custom.py \
#       --cfg-options data_root=/data/street classes=road,sky,tree weights=dinov3_vits16
#
# Folder and options are those of upernet_vitcomer_t_custom.py; docs/dinov3.md goes through all of it.
_base_ = [
    './_base_/backbones/vit_frozen.py',
    './_base_/models/linear_segmentor.py',
    './_base_/custom_semantic.py',
]

model = dict(
    backbone={{_base_._backbone_of_4}},
    neck=dict(in_channels=[384] * 4),
    decode_head=dict(in_channels=[384] * 4, channels=4 * 384, in_index=[0, 1, 2, 3]),
    test_cfg=dict(_delete_=True, mode='whole'),
)
# A convex problem on normalised features: a high rate reaches its end in few steps.
optim_wrapper = dict(optimizer=dict(lr=1e-2))
