# Mask R-CNN with ViT-CoMer-T, narrow and from random weights, on your own images:
#
#   python tools/train.py configs/maskrcnn_vitcomer_t_scratch_custom.py \
#       --cfg-options data_root=/data/street
#
# The same with other backbones: maskrcnn_*_scratch_custom.py. They need no download and train on a
# CPU; with weights, maskrcnn_vitcomer_t_custom.py gets further. See docs/data.md.
_base_ = ['./_base_/models/mask_rcnn_small.py', './_base_/custom_instance_scratch.py']

model = dict(
    backbone=dict(type='mmhybrid.ViTCoMer', arch='t', drop_path_rate=0.1),
    neck=dict(in_channels=[192] * 4),
)
