# A linear classifier over ViT-CoMer-T: the ViT keeps its DeiT weights, frozen, the adapter is
# trained with the classifier. There are no published figures; the recipe is that of the ImageNet
# classifiers here, for 30 epochs.
_base_ = [
    '../_base_/models/linear_classifier.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/imagenet_300e.py',
    '../_base_/mmpretrain_runtime.py',
]

width = 192
model = dict(
    backbone=dict(
        type='mmhybrid.ViTCoMer',
        arch='t',
        windows=0,  # the image has no more patches than a window
        freeze='vit',
        out_indices=[3],
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
    ),
    neck=[
        dict(type='GlobalAveragePooling'),
        dict(type='ClsBatchNormNeck', input_features=width),
    ],
    head=dict(in_channels=width),
)
train_cfg = dict(max_epochs=30)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, end=3, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=3, end=30),
]
