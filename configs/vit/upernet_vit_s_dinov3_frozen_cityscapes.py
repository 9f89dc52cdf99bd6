# UPerNet on a simple pyramid over plain ViT-S with DINOv3 weights, frozen, Cityscapes, 80k steps. There
# are no published figures.
_base_ = [
    '../_base_/backbones/vit_frozen.py',
    '../_base_/models/upernet.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/semantic_80k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone={{_base_._backbone}},
    neck=dict(type='mmhybrid.SimplePyramid', in_channels=384, out_channels=256),
    decode_head=dict(in_channels=[256] * 4, num_classes=19),
    auxiliary_head=dict(in_channels=256, num_classes=19),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride=(341, 683)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
