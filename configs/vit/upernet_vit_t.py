# Plain ViT-T with DeiT weights, ADE20K.
_base_ = './upernet_vit_b.py'

model = dict(
    backbone=dict(
        arch='t',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
    ),
    neck=dict(in_channels=192),
)
optim_wrapper = dict(optimizer=dict(lr=12e-5))
