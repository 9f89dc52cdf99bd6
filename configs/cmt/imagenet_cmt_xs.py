# CMT-XS on ImageNet at 192 pixels, as published: 81.8 top-1, 400 epochs of 2048 images a step (8
# GPUs x 256).
_base_ = './imagenet_cmt_s.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=192, backend='pillow', interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    {{_base_.rand_augment}},
    {{_base_.random_erasing}},
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=219, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=192),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=256, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

model = dict(backbone=dict(arch='xs', drop_path_rate=0.08))
custom_hooks = [dict(type='EMAHook', momentum=2e-4, priority='ABOVE_NORMAL')]
optim_wrapper = dict(optimizer=dict(lr=2.8e-3, weight_decay=0.04))
param_scheduler = [
    dict(type='LinearLR', start_factor=4e-4, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=2e-5, by_epoch=True, begin=20, end=400),
]
train_cfg = dict(max_epochs=400)
auto_scale_lr = dict(base_batch_size=2048)
