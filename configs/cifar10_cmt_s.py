# CMT-S, trained on ImageNet, on CIFAR-10 at 224 pixels: 99.2 top-1 in the paper (Table 8), which
# names no recipe; this is a usual one of fine-tuning. The data is fetched to data/cifar10;
# elsewhere: --cfg-options data_root=PATH
_base_ = ['./_base_/models/imagenet_classifier.py', './_base_/mmpretrain_runtime.py']

model = dict(
    data_preprocessor=dict(num_classes=10, to_rgb=False),  # CIFAR's images are RGB as they are
    backbone=dict(
        type='mmhybrid.CMT',
        arch='s',
        num_classes=10,
        drop_path_rate=0.1,
        # The last layer knows ImageNet's classes: it begins anew.
        init_cfg=dict(type='Pretrained', checkpoint='cmt_small', fresh=r'head\.fc\.'),
    ),
)

data_root = 'data/cifar10'
train_pipeline = [
    dict(type='RandomResizedCrop', scale=224, crop_ratio_range=(0.6, 1.0), interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='Resize', scale=(224, 224), interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CIFAR10', data_root=data_root, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CIFAR10', data_root=data_root, split='test', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    constructor='mmhybrid.LayerDecayOptimWrapperConstructor',
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=1, end=30, convert_to_iter_based=True),
]
