# CvT-21 on ImageNet at 224 pixels, as published: 82.5 top-1. It adds repeated augmentation.
_base_ = './imagenet_cvt_13.py'

model = dict(backbone=dict(arch='21'))
train_dataloader = dict(sampler=dict(type='RepeatAugSampler'))
optim_wrapper = dict(optimizer=dict(weight_decay=0.1))
