# ViT-Adapter-L with BEiT weights at 640 pixels, as published: 58.0 mIoU, single scale.
_base_ = './upernet_vitadapter_l.py'

crop_size = (640, 640)
model = dict(
    data_preprocessor=dict(
        size=crop_size, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
    ),
    backbone=dict(
        vit=dict(
            position='relative',
            class_token=True,
            mask_key_bias=True,
            layer_scale=1e-6,
            pretrain_size=640,
        ),
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='beit_large_patch16_224_pt22k_ft22k'),
    ),
    decode_head=dict(channels=1024),
    test_cfg=dict(crop_size=crop_size, stride=(426, 426)),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.90))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(2048, 640), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 640), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
