# UPerNet with plain ViT-T and a simple pyramid, narrow and from random weights, on your own images
# and masks: see upernet_vitcomer_t_scratch_custom.py.
_base_ = ['./_base_/models/upernet_small.py', './_base_/custom_semantic_scratch.py']

model = dict(
    backbone=dict(type='mmhybrid.ViT', arch='t', drop_path_rate=0.1),
    neck=dict(type='mmhybrid.SimplePyramid', in_channels=192, out_channels=64),
    decode_head=dict(in_channels=[64] * 4),
    auxiliary_head=dict(in_channels=64),
)
