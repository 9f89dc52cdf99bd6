# UPerNet, CMT-S, ADE20K, 160k steps. The authors publish nothing on segmentation: the recipe is that
# of other Transformers of this size.
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.CMT',
        arch='s',
        drop_path_rate=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='cmt_small'),
    ),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
