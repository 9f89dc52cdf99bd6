# ViT-Adapter-B with DeiT weights, COCO 1x, as published: 47.0 box AP and 41.8 mask AP.
_base_ = './maskrcnn_vitadapter_t.py'

model = dict(
    backbone=dict(
        arch='b',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='deit_base_patch16_224'),
    ),
    neck=dict(in_channels=[768] * 4),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.05))
