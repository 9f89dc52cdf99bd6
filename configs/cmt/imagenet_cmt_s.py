# CMT-S on ImageNet at 224 pixels, as published: 83.5 top-1, 300 epochs of 1024 images a step (8 GPUs
# x 128).
#
#   torchrun --nproc_per_node 8 tools/train.py configs/cmt/imagenet_cmt_s.py --launcher pytorch
_base_ = [
    '../_base_/models/imagenet_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(backbone=dict(type='mmhybrid.CMT', arch='s', num_classes=1000, drop_path_rate=0.1))
# Each image three times an epoch, each time augmented anew; a moving average is evaluated.
train_dataloader = dict(sampler=dict(_delete_=True, type='RepeatAugSampler', shuffle=True))
custom_hooks = [dict(type='EMAHook', momentum=4e-5, priority='ABOVE_NORMAL')]
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, end=20, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=20, end=300),
]
