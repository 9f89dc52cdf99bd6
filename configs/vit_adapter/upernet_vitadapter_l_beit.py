# ViT-Adapter-L with BEiT weights at 640 pixels, as published: 58.0 mIoU, single scale.
_base_ = './upernet_vitadapter_t.py'

crop_size = (640, 640)
model = dict(
    backbone=dict(
        arch='l_seg',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='beit_large_patch16_224_pt22k_ft22k'),
        vit=dict(
            pretrain_size=640,
            position='relative',
            class_token=True,
            mask_key_bias=True,
            layer_scale=1e-6,
        ),
        with_cp=True,
    ),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024),
    data_preprocessor=dict(size=crop_size),
    test_cfg=dict(crop_size=crop_size, stride=(426, 426)),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-5, weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=0.90)
)
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
