# DINO, ViT-CoMer-T with DeiT weights, COCO, 12 epochs with multi-scale crops. The authors publish
# Co-DETR alone, on L: the recipe is that of DINO itself (arXiv 2203.03605), which has no results
# with this backbone.
_base_ = [
    '../_base_/models/dino.py',
    '../_base_/datasets/coco_detection_multi_scale.py',
    '../_base_/schedules/coco_dino_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViTCoMer',
        arch='t',
        out_indices=[1, 2, 3],  # the head begins at stride 8
        drop_path_rate=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
    ),
    neck=dict(in_channels=[192] * 3),
)
