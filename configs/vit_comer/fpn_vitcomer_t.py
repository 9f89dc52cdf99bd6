# Semantic FPN, ViT-CoMer-T with DeiT weights, ADE20K, 80k steps. There are no published figures;
# the recipe is PVT's.
_base_ = [
    '../_base_/models/semantic_fpn.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_80k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViTCoMer',
        arch='t_seg',
        drop_path_rate=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
    ),
    neck=dict(in_channels=[192] * 4),
)
