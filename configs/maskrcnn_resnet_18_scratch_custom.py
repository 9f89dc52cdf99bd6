# Mask R-CNN with ResNet-18 of MMDetection, narrow and from random weights, on your own images:
# see maskrcnn_vitcomer_t_scratch_custom.py.
_base_ = ['./_base_/models/mask_rcnn_small.py', './_base_/custom_instance_scratch.py']

model = dict(
    backbone=dict(type='ResNet', depth=18, norm_cfg={{_base_.norm_cfg}}, norm_eval=False),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
