# CMT-S, trained on ImageNet, on CIFAR-10 at 224 pixels: 99.2 top-1 in the paper (Table 8), which
# names no recipe; this is a usual one of fine-tuning. The data is fetched when it is not there.
_base_ = [
    '../../_base_/models/imagenet_classifier.py',
    '../../_base_/datasets/cifar10.py',
    '../../_base_/mmpretrain_runtime.py',
]

model = dict(
    data_preprocessor=dict(num_classes=10, to_rgb=False),  # CIFAR's images are RGB as they are
    backbone=dict(
        type='mmhybrid.CMT',
        arch='s',
        num_classes=10,
        drop_path_rate=0.1,
        # The last layer knows ImageNet's classes: it begins anew.
        init_cfg=dict(type='Pretrained', checkpoint='cmt_small', fresh=r'head\.fc\.'),
    ),
)

train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
    constructor='mmhybrid.LayerDecayOptimWrapperConstructor',
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=1, end=30, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=64)
