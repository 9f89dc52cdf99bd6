# ViT-CoMer-S with DeiT weights, as published: 46.5 mIoU, single scale.
_base_ = './upernet_vitcomer_t.py'

model = dict(
    backbone=dict(
        arch='s_seg',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='deit_small_patch16_224'),
    ),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(optimizer=dict(lr=6e-5))
