# DINO, STA-L over a frozen ViT-S with DINOv3 weights, COCO, 12 epochs with multi-scale crops. There are
# no published figures; the recipe is that of DINO itself, with its full rate for the adapter, which
# begins at random.
_base_ = [
    '../_base_/backbones/sta_frozen.py',
    '../_base_/models/dino.py',
    '../_base_/datasets/coco_detection_multi_scale.py',
    '../_base_/schedules/coco_dino_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(backbone={{_base_._backbone}}, neck=dict(in_channels=[224] * 3))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
