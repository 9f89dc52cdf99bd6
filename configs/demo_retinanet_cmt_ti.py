# RetinaNet with CMT-Ti on the embedded demo data set, from random weights, in minutes on two CPU
# cores. The backbone is the published one; pyramid and head are narrow, and levels begin at stride
# 4, since the images are small.
_base_ = [
    './_base_/models/retinanet_fpn.py',
    './_base_/datasets/demo_instance.py',
    './_base_/mmdet_runtime.py',
]

width = 64
norm_cfg = dict(type='BN', requires_grad=True)  # from random weights every part wants norms
model = dict(
    backbone=dict(type='mmhybrid.CMT', arch='ti'),
    neck=dict(
        in_channels=[46, 92, 184, 368],
        out_channels=width,
        start_level=0,
        add_extra_convs=False,
        num_outs=4,
        norm_cfg=norm_cfg,
    ),
    bbox_head=dict(
        num_classes=6,
        in_channels=width,
        feat_channels=width,
        stacked_convs=2,
        anchor_generator=dict(strides=[4, 8, 16, 32]),
        norm_cfg=norm_cfg,
    ),
)
val_evaluator = dict(metric='bbox')
test_evaluator = dict(metric='bbox')

max_epochs = 10
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        T_max=max_epochs,
        end=max_epochs,
        eta_min_ratio=0.02,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(logger=dict(interval=20))
randomness = dict(seed=0)
auto_scale_lr = dict(enable=False, base_batch_size=4)
