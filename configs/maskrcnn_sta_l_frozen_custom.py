# Mask R-CNN with STA over a frozen ViT, on your own images, annotated in COCO format. The weights tell
# the ViT:
#
#   python tools/train.py configs/maskrcnn_sta_l_frozen_custom.py \
#       --cfg-options data_root=/data/street weights=dinov3_vits16
#
# Folder and options are those of maskrcnn_vitcomer_t_custom.py; docs/dinov3.md goes through all of it.
_base_ = [
    './_base_/backbones/sta_frozen.py',
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/custom_instance.py',
]

model = dict(backbone={{_base_._backbone_from_4}}, neck=dict(in_channels=[224] * 4))
