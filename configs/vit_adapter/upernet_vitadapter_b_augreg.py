# ViT-Adapter-B with AugReg weights (ImageNet-22K, then 1K at 384 pixels), as published: 51.9 mIoU,
# single scale. One rate for the backbone, ten times as much for the heads, in mixed precision.
_base_ = './upernet_vitadapter_t.py'

model = dict(
    backbone=dict(
        arch='b_seg',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='augreg_vit_base_patch16_384'),
        vit=dict(pretrain_size=384),
    ),
    decode_head=dict(in_channels=[768] * 4),
    auxiliary_head=dict(in_channels=768),
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
)
optim_wrapper = dict(
    _delete_=True,
    type='AmpOptimWrapper',
    loss_scale=dict(init_scale=512.0),
    optimizer=dict(type='AdamW', lr=2e-5, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(
            level_embed=dict(decay_mult=0.0),
            pos_embed=dict(decay_mult=0.0),
            decode_head=dict(lr_mult=10.0),
            auxiliary_head=dict(lr_mult=10.0),
        ),
    ),
)
