# Mask R-CNN, ViT-Adapter-T with DeiT weights, COCO 1x: the recipe its authors publish, on 8 GPUs with
# 2 images each. Their table gives 41.1 box AP and 37.5 mask AP.
#
#   torchrun --nproc_per_node 8 tools/train.py maskrcnn_vitadapter_t --launcher pytorch
_base_ = [
    '../_base_/models/mask_rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViTAdapter',
        arch='t',
        drop_path_rate=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
    ),
    neck=dict(in_channels=[192] * 4),
)
# In float32, and without layer-wise rates.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.01),
    constructor='mmhybrid.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0, no_decay=('pos_embed', 'level_embed')),
)
train_pipeline = {{_base_.single_scale_pipeline}}
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
