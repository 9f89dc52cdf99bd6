# UPerNet, STA-L over a frozen ViT-S with DINOv3 weights, ADE20K, 80k steps. There are no published
# figures; adapter and heads begin at random, at a higher rate than a tuned ViT takes.
_base_ = [
    '../_base_/backbones/sta_frozen.py',
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/semantic_80k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone={{_base_._backbone_from_4}},
    decode_head=dict(in_channels=[224] * 4),
    auxiliary_head=dict(in_channels=224),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
