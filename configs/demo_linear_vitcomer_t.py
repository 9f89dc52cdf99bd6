# A linear classifier over ViT-CoMer-T's coarsest map on the objects of the demo data set, from
# random weights: a trial of the classification tools, not a recipe.
_base_ = ['./_base_/datasets/demo_crops.py', './_base_/mmpretrain_runtime.py']

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
    ),
    backbone=dict(type='mmhybrid.ViTCoMer', arch='t', windows=0),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=6,
        in_channels=192,
        topk=(1,),
        loss=dict(type='CrossEntropyLoss'),
    ),
)

train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05), clip_grad=dict(max_norm=5.0)
)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=10, by_epoch=True, convert_to_iter_based=True)
]
default_hooks = dict(logger=dict(interval=5))
randomness = dict(seed=0)
auto_scale_lr = dict(enable=False, base_batch_size=16)
