# ATSS, ViT-Adapter-S with DeiT weights, COCO 3x with multi-scale crops, as published: 49.6 box AP
# (arXiv 2205.08534; table of the authors' detection folder).
#
#   torchrun --nproc_per_node 8 tools/train.py atss_vitadapter_s_3x --launcher pytorch
_base_ = [
    '../_base_/models/atss_fpn.py',
    '../_base_/datasets/coco_detection_multi_scale.py',
    '../_base_/schedules/coco_3x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViTAdapter',
        arch='s',
        out_indices=[1, 2, 3],  # the head begins at stride 8
        drop_path_rate=0.2,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='deit_small_patch16_224'),
    ),
    neck=dict(in_channels=[384] * 3, start_level=0),
)
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay_rate=1.0, no_decay=('pos_embed', 'level_embed'))
)
