# UPerNet on a simple pyramid over a frozen ViT, on your own images, each with a mask of class numbers.
# The weights tell the ViT:
#
#   python tools/train.py configs/upernet_vit_s_frozen_custom.py \
#       --cfg-options data_root=/data/street classes=road,sky,tree weights=dinov3_vits16
#
# Folder and options are those of upernet_vitcomer_t_custom.py; docs/dinov3.md goes through all of it.
_base_ = [
    './_base_/backbones/vit_frozen.py',
    './_base_/models/upernet.py',
    './_base_/custom_semantic.py',
]

model = dict(
    backbone={{_base_._backbone}},
    neck=dict(type='mmhybrid.SimplePyramid', in_channels=384, out_channels=256),
    decode_head=dict(in_channels=[256] * 4),
    auxiliary_head=dict(in_channels=256),
    test_cfg=dict(_delete_=True, mode='whole'),
)
