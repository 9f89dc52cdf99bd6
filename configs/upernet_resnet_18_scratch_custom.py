# UPerNet with ResNet-18 of MMSegmentation, narrow and from random weights, on your own images and
# masks: see upernet_vitcomer_t_scratch_custom.py.
_base_ = ['./_base_/models/upernet_small.py', './_base_/custom_semantic_scratch.py']

model = dict(
    backbone=dict(type='ResNet', depth=18, norm_cfg={{_base_.norm_cfg}}),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
