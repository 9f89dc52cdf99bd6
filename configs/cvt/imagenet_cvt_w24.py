# CvT-W24 on ImageNet-1k. It is published with ImageNet-22k weights, fine-tuned at 384 pixels (87.6
# top-1); this is its authors' config for training, at 224 pixels.
_base_ = './imagenet_cvt_13.py'

model = dict(backbone=dict(arch='w24', drop_path_rate=0.3))
optim_wrapper = dict(optimizer=dict(weight_decay=0.1))
