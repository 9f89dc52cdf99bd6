# Semantic FPN, CMT-Ti, ADE20K, 80k steps. There are no published figures; the recipe is PVT's.
_base_ = [
    '../_base_/models/semantic_fpn.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_80k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.CMT',
        arch='ti',
        drop_path_rate=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='cmt_tiny'),
    ),
    neck=dict(in_channels=[46, 92, 184, 368]),
)
