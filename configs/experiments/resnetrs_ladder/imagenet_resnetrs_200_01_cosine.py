# A cosine in place of steps: 79.3 top-1.
_base_ = './imagenet_resnetrs_200_00_baseline.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=5, end=90),
]
