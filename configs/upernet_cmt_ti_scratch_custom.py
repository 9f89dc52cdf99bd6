# UPerNet with CMT-Ti, narrow and from random weights, on your own images and masks: see
# upernet_vitcomer_t_scratch_custom.py.
_base_ = ['./_base_/models/upernet_small.py', './_base_/custom_semantic_scratch.py']

model = dict(
    backbone=dict(type='mmhybrid.CMT', arch='ti', drop_path_rate=0.1),
    decode_head=dict(in_channels=[46, 92, 184, 368]),
    auxiliary_head=dict(in_channels=184),
)
