# An exponential moving average of the weights: 79.1 top-1.
_base_ = './imagenet_resnetrs_200_02_epochs.py'

custom_hooks = [dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL')]
