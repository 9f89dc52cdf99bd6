# UPerNet, SPACH-Hybrid-MS-S, ADE20K, 160k steps. The authors publish no segmentors: the optimizer is
# that of MMSegmentation's Swin configs, the drop path the classifier's.
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.SPACH',
        arch='ms_s_hybrid',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='spach_ms_hybrid_s'),
    ),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
