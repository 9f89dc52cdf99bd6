# Classes of pixels on your own images from random weights, on a CPU if need be: small images. A
# config adds the model.
_base_ = [
    './datasets/custom_semantic.py',
    './schedules/custom.py',
    './mmseg_runtime.py',
]

image_size = (480, 360)
crop_size = (256, 256)
default_hooks = dict(logger=dict(interval=None), checkpoint=dict(interval=None, save_best='mIoU'))
# All layers learn at one, higher rate.
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(
        _delete_=True, norm_decay_mult=0.0, bias_decay_mult=0.0, bypass_duplicate=True
    ),
)
