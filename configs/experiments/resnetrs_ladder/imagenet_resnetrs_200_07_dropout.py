# Dropout before the last layer: 80.7 top-1.
_base_ = './imagenet_resnetrs_200_06_randaugment.py'

model = dict(drop_rate=0.25)
