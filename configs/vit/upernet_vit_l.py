# Plain ViT-L with AugReg weights, ADE20K: upernet_vitcomer_l.py without its adapter.
_base_ = './upernet_vit_b.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        arch='l',
        pretrain_size=384,
        drop_path_rate=0.4,
        with_cp=True,
        init_cfg=dict(type='Pretrained', checkpoint='augreg_vit_large_patch16_384'),
    ),
    neck=dict(in_channels=1024),
)
optim_wrapper = dict(optimizer=dict(lr=2e-5, weight_decay=0.05))
