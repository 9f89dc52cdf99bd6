# Mask R-CNN, STA-L over DINOv3-S with a level of stride 4, COCO 1x with multi-scale crops. There are
# no published figures; the optimizer is that of its authors.
#
#   torchrun --nproc_per_node 8 tools/train.py maskrcnn_sta_l --launcher pytorch
_base_ = [
    '../_base_/models/mask_rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_sta_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.STA',
        arch='l',
        out_indices=[0, 1, 2, 3],  # the head begins at stride 4
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
    ),
    neck=dict(in_channels=[224] * 4),
)
