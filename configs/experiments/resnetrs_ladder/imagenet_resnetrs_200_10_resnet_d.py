# ResNet-D, three 3x3 convolutions for the stem, one for its pooling, and pooled shortcuts: 83.4
# top-1. This is ResNet-RS-200.
_base_ = './imagenet_resnetrs_200_09_se.py'

model = dict(stem_type='deep', stem_width=32, avg_down=True, replace_stem_pool=True)
