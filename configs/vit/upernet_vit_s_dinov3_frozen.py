# UPerNet on a simple pyramid over plain ViT-S with DINOv3 weights, frozen, ADE20K, 80k steps. There are
# no published figures; pyramid and heads begin at random, at a higher rate than a tuned ViT takes.
_base_ = [
    '../_base_/backbones/vit_frozen.py',
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/semantic_80k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone={{_base_._backbone}},
    neck=dict(type='mmhybrid.SimplePyramid', in_channels=384, out_channels=256),
    decode_head=dict(in_channels=[256] * 4),
    auxiliary_head=dict(in_channels=256),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
