# UPerNet, plain ViT-B with DeiT weights and a simple feature pyramid, ADE20K, 160k steps: the
# recipe of upernet_vitcomer_b.py without its adapter.
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViT',
        arch='b',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='deit_base_patch16_224'),
    ),
    neck=dict(type='mmhybrid.SimplePyramid', in_channels=768, out_channels=256),
    decode_head=dict(in_channels=[256] * 4),
    auxiliary_head=dict(in_channels=256),
)
