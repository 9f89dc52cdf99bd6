# DINO, STA-L over DINOv3-S, COCO, 12 epochs with multi-scale crops. There are no published figures;
# the recipe is that of DINO itself (arXiv 2203.03605), with the lower rate for the ViT alone.
_base_ = [
    '../_base_/models/dino.py',
    '../_base_/datasets/coco_detection_multi_scale.py',
    '../_base_/schedules/coco_dino_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.STA',
        arch='l',
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
    ),
    neck=dict(in_channels=[224] * 3),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'_delete_': True, 'backbone.vit': dict(lr_mult=0.1)})
)
