# Mask2Former with ViT-Adapter over a frozen ViT, on your own images, each with a mask of class numbers. The
# weights tell the ViT:
#
#   python tools/train.py configs/mask2former_vitadapter_s_frozen_custom.py \
#       --cfg-options data_root=/data/street classes=road,sky,tree weights=dinov3_vits16
#
# Folder and options are those of upernet_vitcomer_t_custom.py; docs/dinov3.md goes through all of it.
_base_ = [
    './_base_/backbones/vitadapter_frozen.py',
    './_base_/models/mask2former.py',
    './_base_/custom_semantic.py',
]

model = dict(backbone={{_base_._backbone}}, decode_head=dict(in_channels=[384] * 4))
