# ViT-CoMer-T with DeiT weights, COCO 1x. The authors' table gives 42.1 box AP and 38.0 mask AP, but
# they publish no config for T: drop path and weight decay are those of their DeiT baselines, which
# have no layer decay.
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
