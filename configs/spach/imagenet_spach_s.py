# SPACH-Hybrid-MS-S on ImageNet at 224 pixels, as published: 83.7 top-1, 300 epochs of 1024 images a
# step (8 GPUs x 128). The paper prints ten times the learning rate; this is that of the authors' code.
#
#   torchrun --nproc_per_node 8 tools/train.py configs/spach/imagenet_spach_s.py --launcher pytorch
_base_ = [
    '../_base_/models/imagenet_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/mmpretrain_runtime.py',
]

model = dict(
    backbone=dict(type='mmhybrid.SPACH', arch='ms_s_hybrid', num_classes=1000, drop_path_rate=0.1)
)
# Each image three times an epoch, each time augmented anew; a moving average is evaluated.
train_dataloader = dict(sampler=dict(_delete_=True, type='RepeatAugSampler', shuffle=True))
custom_hooks = [dict(type='EMAHook', momentum=4e-5, priority='ABOVE_NORMAL')]
