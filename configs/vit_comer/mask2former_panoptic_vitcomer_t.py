# Mask2Former for panoptic segmentation, ViT-CoMer-T with DeiT weights, COCO, 36 epochs with
# multi-scale crops. There are no published figures; see the schedule for where the recipe is from.
_base_ = [
    '../_base_/models/mask2former_panoptic.py',
    '../_base_/datasets/coco_panoptic.py',
    '../_base_/schedules/coco_mask2former_3x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViTCoMer',
        arch='t',
        drop_path_rate=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
    ),
    panoptic_head=dict(in_channels=[192] * 4),
)
