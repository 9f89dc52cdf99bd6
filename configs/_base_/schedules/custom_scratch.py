# A short schedule for few images from random weights: all layers learn at one, higher rate. The
# options are those of custom.py.
_base_ = './custom.py'

optim_wrapper = dict(
    optimizer=dict(lr=1e-3),
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0, bias_decay_mult=0.0),
)
