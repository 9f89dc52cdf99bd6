# ViT-CoMer-B with DeiT weights, COCO 3x: 50.2 box AP and 44.0 mask AP (arXiv 2403.07392, Table 1).
# The recipe is that of maskrcnn_vitcomer_b_deit.py.
_base_ = '../maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        vit=dict(pretrain_size=224),
        init_cfg=dict(type='Pretrained', checkpoint='deit_base_patch16_224'),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0, no_decay=('pos_embed',)))
train_cfg = dict(max_epochs=36)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
