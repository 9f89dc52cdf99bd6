# An exponential moving average of the weights: 79.1 top-1.
_base_ = './imagenet_resnetrs_200_00_baseline.py'

train_cfg = dict(max_epochs=350)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=5, end=350),
]
custom_hooks = [dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL')]
