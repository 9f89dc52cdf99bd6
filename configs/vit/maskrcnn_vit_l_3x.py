# Plain ViT-L with AugReg weights, COCO 3x: 48.3 box AP and 43.4 mask AP, with a pyramid of the
# authors' own (arXiv 2403.07392, Table 1; ViT-Adapter's table prints 43.3). The recipe is that of
# maskrcnn_vit_l.py.
_base_ = './maskrcnn_vit_b.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        arch='l',
        pretrain_size=384,
        windows=[14, 14, 14, 14, 14, 0] * 4,
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='augreg_vit_large_patch16_384'),
    ),
    neck=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.80, no_decay=()))
train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
