# Label smoothing: 80.4 top-1.
_base_ = './imagenet_resnetrs_200_03_ema.py'

model = dict(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'))
