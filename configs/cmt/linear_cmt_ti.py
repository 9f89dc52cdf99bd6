# A linear classifier over CMT-Ti, frozen, ImageNet at 224 pixels. There are no published figures;
# the recipe is that of linear_vit_t.py.
_base_ = [
    '../_base_/models/linear_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_linear_90e.py',
    '../_base_/mmpretrain_runtime.py',
]

width = 368
model = dict(
    backbone=dict(
        type='mmhybrid.CMT',
        arch='ti',
        out_indices=[3],
        frozen_stages=4,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='cmt_tiny'),
    ),
    neck=[
        dict(type='GlobalAveragePooling'),
        dict(type='ClsBatchNormNeck', input_features=width),
    ],
    head=dict(in_channels=width),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
