# Boxes and masks on your own images from random weights, on a CPU if need be: small images. A
# config adds the model.
_base_ = [
    './datasets/custom_instance.py',
    './schedules/custom.py',
    './mmdet_runtime.py',
]

image_size = (480, 360)
default_hooks = dict(
    logger=dict(interval=None, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=None, save_best='coco/bbox_mAP'),
)
log_processor = dict(by_epoch=False)
# All layers learn at one, higher rate.
optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(
        _delete_=True, norm_decay_mult=0.0, bias_decay_mult=0.0, bypass_duplicate=True
    ),
)
