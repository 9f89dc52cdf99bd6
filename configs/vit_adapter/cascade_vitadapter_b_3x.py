# Cascade Mask R-CNN, ViT-Adapter-B with DeiT weights, COCO 3x with multi-scale crops, as published:
# 52.1 box AP and 44.8 mask AP. The recipe is that of cascade_vitadapter_s_3x.py.
_base_ = [
    '../_base_/models/cascade_mask_rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_3x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViTAdapter',
        arch='b',
        drop_path_rate=0.3,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='deit_base_patch16_224'),
    ),
    neck=dict(in_channels=[768] * 4),
)
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay_rate=1.0, no_decay=('pos_embed', 'level_embed'))
)
