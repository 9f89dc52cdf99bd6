# Stochastic depth: 80.6 top-1.
_base_ = './imagenet_resnetrs_200_00_baseline.py'

model = dict(
    loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    drop_path_rate=0.1,
)
train_cfg = dict(max_epochs=350)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=5, end=350),
]
custom_hooks = [dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL')]
