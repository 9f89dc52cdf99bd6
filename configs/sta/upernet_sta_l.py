# UPerNet, STA-L over DINOv3-S with a level of stride 4, ADE20K, 160k steps. There are no published
# figures; the recipe is that of upernet_vitcomer_s_dinov3.py.
#
#   torchrun --nproc_per_node 8 tools/train.py upernet_sta_l --launcher pytorch
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.STA',
        arch='l',
        out_indices=[0, 1, 2, 3],  # the head begins at stride 4
        drop_path_rate=0.2,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
    ),
    decode_head=dict(in_channels=[224] * 4),
    auxiliary_head=dict(in_channels=224),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.70))
