# Mask R-CNN with STA-L, the lightest adapter of a DINOv3 ViT, on your own images, annotated in COCO
# format:
#
#   python tools/train.py configs/maskrcnn_sta_l_custom.py \
#       --cfg-options data_root=/data/street weights=vit_small_patch16_dinov3_qkvb.lvd1689m
#
# Folder and options are those of maskrcnn_vitcomer_t_custom.py; see docs/data.md.
_base_ = ['./_base_/models/mask_rcnn_fpn.py', './_base_/custom_instance.py']

model = dict(
    backbone=dict(type='mmhybrid.STA', arch='l', out_indices=[0, 1, 2, 3]),
    neck=dict(in_channels=[224] * 4),
)
