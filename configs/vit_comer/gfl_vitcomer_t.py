# GFL, ViT-CoMer-T with DeiT weights, COCO 1x at one scale. The paper (arXiv 2403.07392, Table 2)
# has this head, its configs are not published: the recipe is that of maskrcnn_vitcomer_t.py.
_base_ = [
    '../_base_/models/gfl_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_1x.py',
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
    neck=dict(in_channels=[192] * 3, start_level=0),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0, no_decay=('pos_embed',)))
