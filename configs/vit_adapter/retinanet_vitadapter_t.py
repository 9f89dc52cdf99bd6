# RetinaNet, ViT-Adapter-T with DeiT weights, COCO 1x. The authors publish no RetinaNet: drop path and
# optimizer are those of their Mask R-CNN, at the learning rate of their larger models.
_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViTAdapter',
        arch='t',
        out_indices=[1, 2, 3],  # the head begins at stride 8
        drop_path_rate=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
    ),
    neck=dict(in_channels=[192] * 3, start_level=0),
)
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay_rate=1.0, no_decay=('pos_embed', 'level_embed'))
)
