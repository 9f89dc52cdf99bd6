# ViT-Adapter-L with AugReg weights (ImageNet-22K, then 1K at 384 pixels), COCO 1x, as published: 48.7
# box AP and 43.3 mask AP.
_base_ = './maskrcnn_vitadapter_t.py'

model = dict(
    backbone=dict(
        arch='l',
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='augreg_vit_large_patch16_384'),
        vit=dict(pretrain_size=384),
    ),
    neck=dict(in_channels=[1024] * 4),
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(layer_decay_rate=0.80, no_decay=()),
)
