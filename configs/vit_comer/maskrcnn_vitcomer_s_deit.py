# ViT-CoMer-S with DeiT weights, COCO 1x: 45.8 box AP and 40.5 mask AP (arXiv 2403.07392, Table 1).
# The authors publish no config with these weights: the optimizer is that of their DeiT baselines,
# without layer decay.
_base_ = '../maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        arch='s',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='deit_small_patch16_224'),
        vit=dict(pretrain_size=224),
    ),
    neck=dict(in_channels=[384] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0, no_decay=('pos_embed',)))
