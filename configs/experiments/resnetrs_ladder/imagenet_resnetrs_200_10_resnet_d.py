# ResNet-D, three 3x3 convolutions for the stem, one for its pooling, and pooled shortcuts: 83.4
# top-1. This is ResNet-RS-200.
_base_ = './imagenet_resnetrs_200_06_randaugment.py'

model = dict(
    model_name='resnetrs200',
    drop_rate=0.25,
    stem_type='deep',
    stem_width=32,
    avg_down=True,
    replace_stem_pool=True,
)
optim_wrapper = dict(optimizer=dict(weight_decay=4e-5))
