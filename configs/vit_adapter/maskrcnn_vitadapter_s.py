# ViT-Adapter-S with DeiT weights, COCO 1x, as published: 44.7 box AP and 39.9 mask AP.
_base_ = './maskrcnn_vitadapter_t.py'

model = dict(
    backbone=dict(
        arch='s',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='deit_small_patch16_224'),
    ),
    neck=dict(in_channels=[384] * 4),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.05))
