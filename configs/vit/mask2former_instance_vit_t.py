# Mask2Former for instance segmentation, plain ViT-T with DeiT weights, windowed attention and a
# simple feature pyramid, COCO, 36 epochs: the baseline of mask2former_instance_vitcomer_t.py. There
# are no published figures.
_base_ = [
    '../_base_/models/mask2former_instance.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_mask2former_3x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViT',
        arch='t',
        class_token=False,
        windows=[14, 14, 0] * 4,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
    ),
    neck=dict(
        type='mmhybrid.SimplePyramid',
        in_channels=192,
        out_channels=256,
    ),
    panoptic_head=dict(in_channels=[256] * 4),
)
