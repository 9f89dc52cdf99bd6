# Mask R-CNN with ViT-CoMer-T on the embedded demo data set, from random weights, in minutes on two
# CPU cores: `make demo`. The backbone is the published one, but its attention is global: the images
# are smaller than a window. The pyramid and the heads are narrow, the proposals few.
_base_ = [
    './_base_/models/mask_rcnn_small.py',
    './_base_/datasets/demo_instance.py',
    './_base_/mmdet_runtime.py',
]

strides = [4, 8, 16, 32]
model = dict(
    backbone=dict(type='mmhybrid.ViTCoMer', arch='t', windows=0),
    neck=dict(in_channels=[192] * 4, num_outs=4),
    rpn_head=dict(anchor_generator=dict(scales=[5], strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(finest_scale=28),
        bbox_head=dict(num_classes=6),
        mask_roi_extractor=dict(finest_scale=28),
        mask_head=dict(num_classes=6),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=100), rcnn=dict(sampler=dict(num=64))
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)),
)

max_epochs = 3
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=60),
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
