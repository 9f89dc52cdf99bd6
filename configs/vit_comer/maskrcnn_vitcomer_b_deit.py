# ViT-CoMer-B with DeiT weights, COCO 1x: 47.6 box AP and 41.8 mask AP (arXiv 2403.07392, Table 1).
# The authors publish no config with these weights: the optimizer is that of their DeiT baselines,
# without layer decay.
_base_ = '../maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        vit=dict(pretrain_size=224),
        init_cfg=dict(type='Pretrained', checkpoint='deit_base_patch16_224'),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0, no_decay=('pos_embed',)))
