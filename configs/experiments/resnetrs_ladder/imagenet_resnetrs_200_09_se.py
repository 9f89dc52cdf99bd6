# Squeeze-and-excitation of ratio 0.25: 82.9 top-1. It is timm's ResNet-RS-200 without ResNet-D.
_base_ = './imagenet_resnetrs_200_06_randaugment.py'

model = dict(
    model_name='resnetrs200',
    drop_rate=0.25,
    stem_type='',
    stem_width=64,
    avg_down=False,
    replace_stem_pool=False,
)
optim_wrapper = dict(optimizer=dict(weight_decay=4e-5))
