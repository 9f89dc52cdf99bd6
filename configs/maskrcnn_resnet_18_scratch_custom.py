# ResNet-18 of MMDetection.
_base_ = './_base_/custom_instance_scratch.py'

model = dict(
    backbone=dict(type='ResNet', depth=18, norm_cfg={{_base_.norm_cfg}}, norm_eval=False),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
