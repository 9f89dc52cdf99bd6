# Mask2Former, plain ViT-T with DeiT weights and a simple feature pyramid, ADE20K, 160k steps: the
# baseline of mask2former_vitcomer_t.py. There are no published figures.
_base_ = [
    '../_base_/models/mask2former.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_mask2former_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViT',
        arch='t',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
    ),
    neck=dict(
        type='mmhybrid.SimplePyramid',
        in_channels=192,
        out_channels=256,
    ),
    decode_head=dict(in_channels=[256] * 4),
)
