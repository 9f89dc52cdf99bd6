# SPACH-MLP-MS-XXS, whose MLPs are tied to the 224 x 224 pixels of its weights: it is trained on crops of
# that size, and slides a window of that size over larger images.
_base_ = './upernet_spach_s.py'

crop_size = (224, 224)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        arch='ms_xxs_mlp',
        init_cfg=dict(type='Pretrained', checkpoint='spach_ms_mlp_xxs'),
    ),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
    test_cfg=dict(crop_size=crop_size, stride=(149, 149)),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
