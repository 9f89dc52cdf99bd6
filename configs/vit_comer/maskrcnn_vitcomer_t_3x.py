# ViT-CoMer-T with DeiT weights, COCO 3x: 47.1 box AP and 41.5 mask AP (arXiv 2403.07392, Table 1),
# without a published config: see maskrcnn_vitcomer_t.py.
_base_ = '../maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        arch='t',
        vit=dict(pretrain_size=224),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
    ),
    neck=dict(in_channels=[192] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0, no_decay=('pos_embed',)))
train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
