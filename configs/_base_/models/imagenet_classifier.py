# A backbone with its original's classification head: a config adds backbone=dict(type=...,
# num_classes=1000). Mixup, CutMix and label smoothing as in DeiT.
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    head=dict(  # the logits come from the backbone
        type='ClsHead', loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
