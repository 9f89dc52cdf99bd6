# UPerNet, ViT_C-4GF and a simple feature pyramid, ADE20K, 160k steps: the recipe of the plain ViT.
# For weights see maskrcnn_vitc_4gf.py.
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(type='mmhybrid.ConvStemViT', arch='c_4gf', drop_path_rate=0.2),
    neck=dict(type='mmhybrid.SimplePyramid', in_channels=384, out_channels=256),
    decode_head=dict(in_channels=[256] * 4),
    auxiliary_head=dict(in_channels=256),
)
