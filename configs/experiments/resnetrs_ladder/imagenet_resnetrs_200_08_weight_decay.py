# A lower weight decay, now that there is so much other regularisation: 82.2 top-1.
_base_ = './imagenet_resnetrs_200_06_randaugment.py'

model = dict(drop_rate=0.25)
optim_wrapper = dict(optimizer=dict(weight_decay=4e-5))
