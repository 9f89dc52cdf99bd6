# CvT-13 on ImageNet at 224 pixels, as published: 81.6 top-1, 300 epochs of 2048 images a step (16
# GPUs x 128). The paper names a learning rate of 0.02; this is the one of the authors' code.
_base_ = [
    '../_base_/models/imagenet_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(backbone=dict(type='mmhybrid.CvT', arch='13', num_classes=1000, drop_path_rate=0.1))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
auto_scale_lr = dict(base_batch_size=2048)
