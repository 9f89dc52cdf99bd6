# Mask R-CNN with CMT-Ti, narrow and from random weights, on your own images: see
# maskrcnn_vitcomer_t_scratch_custom.py.
_base_ = ['./_base_/models/mask_rcnn_small.py', './_base_/custom_instance_scratch.py']

model = dict(
    backbone=dict(type='mmhybrid.CMT', arch='ti', drop_path_rate=0.1),
    neck=dict(in_channels=[46, 92, 184, 368]),
)
