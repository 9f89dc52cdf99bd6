# A short schedule for few images. Options, through --cfg-options:
#
#   max_iters=3000                training steps; warm-up, cosine, evaluations and checkpoints follow
#   weights=NAME, PATH or URL     weights of the backbone to begin with. They are worth a lot when
#                                 images are few: give them unless you are offline
#   optim_wrapper.optimizer.lr=2e-4
weights = None
max_iters = 3000

train_cfg = dict(type='IterBasedTrainLoop')
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# Few images need small steps at first, a bounded gradient, and a rate that falls smoothly to zero.
# Layers near the image, which learned what all images have in common, change least; without weights
# to begin with, all learn at one rate.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.05),
    constructor='mmhybrid.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.8),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, eta_min=0.0),
]
