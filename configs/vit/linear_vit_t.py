# A linear classifier over plain ViT-T with DeiT weights, frozen, ImageNet at 224 pixels: what the
# features are worth by themselves. There are no published figures of this average of patches; the
# recipe is MAE's.
#
#   torchrun --nproc_per_node 8 tools/train.py configs/vit/linear_vit_t.py --launcher pytorch
_base_ = [
    '../_base_/models/linear_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_linear_90e.py',
    '../_base_/mmpretrain_runtime.py',
]

width = 192
model = dict(
    backbone=dict(
        type='mmhybrid.ViT',
        arch='t',
        freeze='vit',
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
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
