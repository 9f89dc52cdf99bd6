# The first rung of the ladder of ResNet-RS (arXiv 2103.07579, Table 1): ResNet-200 on ImageNet at
# 256 pixels as it used to be trained, 79.0 top-1. Each next file adds one step to the one before:
#
#   01 cosine 79.3           05 stochastic depth 80.6   09 squeeze-and-excitation 82.9
#   02 more epochs 78.8      06 RandAugment 81.0        10 ResNet-D 83.4
#   03 weight average 79.1   07 dropout 80.7
#   04 label smoothing 80.4  08 lower weight decay 82.2
#
# The model is timm's, the classifier MMPretrain's wrapper around it. 4096 images a step: 32 GPUs x
# 128, or fewer with --auto-scale-lr.
_base_ = [
    '../../_base_/resnet200.py',
    '../../_base_/datasets/imagenet.py',
    '../../_base_/mmpretrain_runtime.py',
]

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=256, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=292, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=256),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60, 80], gamma=0.1),
]
