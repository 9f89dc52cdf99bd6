# Stochastic depth: 80.6 top-1.
_base_ = './imagenet_resnetrs_200_04_label_smoothing.py'

model = dict(drop_path_rate=0.1)
