# ViT-Adapter-L with BEiT weights, ADE20K at 640 pixels, 160k steps, 8 GPUs with 2 images each,
# without COCO-Stuff, as published: 58.3 mIoU, single scale, and 59.0, multi-scale.
_base_ = './mask2former_vitadapter_l.py'

crop_size = (640, 640)
model = dict(
    backbone=dict(
        init_cfg=dict(type='Pretrained', checkpoint='beit_large_patch16_224_pt22k_ft22k'),
        vit=dict(pretrain_size=640),
    ),
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_queries=100),
    test_cfg=dict(crop_size=crop_size, stride=(426, 426)),
)
train_cfg = dict(max_iters=160000, val_interval=16000)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, begin=1500, end=160000, eta_min=0.0, by_epoch=False),
]
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
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
