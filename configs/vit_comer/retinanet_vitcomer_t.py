# ViT-CoMer-T with DeiT weights.
_base_ = './retinanet_vitcomer_b.py'

model = dict(
    backbone=dict(
        arch='t',
        vit=dict(pretrain_size=224),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
    ),
    neck=dict(in_channels=[192] * 3),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0, no_decay=('pos_embed',)))
