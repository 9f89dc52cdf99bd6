# ViT-Adapter-L with AugReg weights (ImageNet-22K, then 1K at 384 pixels), as published: 53.4 mIoU,
# single scale.
_base_ = './upernet_vitadapter_t.py'

model = dict(
    backbone=dict(
        arch='l_seg',
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='augreg_vit_large_patch16_384'),
        vit=dict(pretrain_size=384),
        with_cp=True,
    ),
    decode_head=dict(in_channels=[1024] * 4),
    auxiliary_head=dict(in_channels=1024),
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
)
optim_wrapper = dict(optimizer=dict(lr=2e-5, weight_decay=0.05))
