# UPerNet with ViT-CoMer-T on the embedded demo data set, from random weights.
_base_ = ['./_base_/models/upernet_small.py', './_base_/demo_semantic.py']

model = dict(
    data_preprocessor=dict(size=(96, 96)),
    backbone=dict(type='mmhybrid.ViTCoMer', arch='t_seg'),
    decode_head=dict(in_channels=[192] * 4, num_classes=7),
    auxiliary_head=dict(in_channels=192, num_classes=7),
)
