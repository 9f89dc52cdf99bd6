# ViT-Adapter-B with DeiT weights, as published: 48.8 mIoU, single scale.
_base_ = './upernet_vitadapter_t.py'

model = dict(
    backbone=dict(
        arch='b_seg',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='deit_base_patch16_224'),
    ),
    decode_head=dict(in_channels=[768] * 4),
    auxiliary_head=dict(in_channels=768),
)
optim_wrapper = dict(optimizer=dict(lr=6e-5))
