# RetinaNet, ViT-CoMer-B with DINOv2 weights, COCO 1x. The authors publish no RetinaNet: the recipe is
# that of their Mask R-CNN.
_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViTCoMer',
        arch='b',
        vit=dict(pretrain_size=592),
        out_indices=[1, 2, 3],  # the head begins at stride 8
        drop_path_rate=0.3,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vitb14'),
    ),
    neck=dict(in_channels=[768] * 3, start_level=0),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.60))
