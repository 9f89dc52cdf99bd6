# CMT-Ti.
_base_ = './_base_/custom_instance_scratch.py'

model = dict(
    backbone=dict(type='mmhybrid.CMT', arch='ti', drop_path_rate=0.1),
    neck=dict(in_channels=[46, 92, 184, 368]),
)
