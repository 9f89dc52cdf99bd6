# RetinaNet, STA-L over DINOv3-S, COCO 1x at one scale. There are no published figures, its authors
# train it with a decoder of their own; the optimizer is theirs.
#
# DINOv3's weights are handed out on request (docs/weights.md); timm has the same without asking:
# checkpoint='vit_small_patch16_dinov3_qkvb.lvd1689m'.
#
#   torchrun --nproc_per_node 8 tools/train.py retinanet_sta_l --launcher pytorch
_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_sta_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.STA',
        arch='l',
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
    ),
    neck=dict(in_channels=[224] * 3, start_level=0),
)
