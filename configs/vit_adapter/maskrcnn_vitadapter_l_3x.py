# ViT-Adapter-L with AugReg weights (ImageNet-22K, then 1K at 384 pixels), COCO 3x, as published:
# 52.1 box AP and 46.0 mask AP.
_base_ = './maskrcnn_vitadapter_t_3x.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        arch='l',
        vit=dict(pretrain_size=384),
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='augreg_vit_large_patch16_384'),
    ),
    neck=dict(in_channels=[1024] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.80, no_decay=()))
