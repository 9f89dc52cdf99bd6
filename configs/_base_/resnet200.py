# ResNet-200 of timm and its optimizer, as at the first rung of the ladder of ResNet-RS (arXiv
# 2103.07579). A config adds pipelines, at 256 pixels, and the schedule.
custom_imports = dict(imports=['mmpretrain.models'], allow_failed_imports=False)

model = dict(
    type='TimmClassifier',
    model_name='resnet200',
    pretrained=False,
    num_classes=1000,
    loss=dict(type='CrossEntropyLoss'),
    data_preprocessor=dict(
        num_classes=1000,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
)

train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(type='SGD', lr=1.6, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
auto_scale_lr = dict(enable=False, base_batch_size=4096)
