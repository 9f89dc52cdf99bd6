# Mask R-CNN, ViT-CoMer-S with DINOv2 weights, LVIS v1, 12 epochs of 16 images a step (8 GPUs x 2).
# There are no published figures; the recipe is that on COCO.
_base_ = [
    '../_base_/models/mask_rcnn_fpn.py',
    '../_base_/datasets/lvis.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViTCoMer',
        arch='s',
        vit=dict(pretrain_size=592),
        drop_path_rate=0.2,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vits14'),
    ),
    neck=dict(in_channels=[384] * 4),
    roi_head=dict(bbox_head=dict(num_classes=1203), mask_head=dict(num_classes=1203)),
    test_cfg=dict(rcnn=dict(score_thr=0.0001, max_per_img=300)),  # LVIS counts 300 an image
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.70))
