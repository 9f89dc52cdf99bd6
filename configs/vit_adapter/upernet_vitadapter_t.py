# UPerNet, ViT-Adapter-T with DeiT weights, ADE20K, 160k steps: the recipe its authors publish, on 8
# GPUs with 2 images each. Their table gives 42.6 mIoU, single scale.
#
#   torchrun --nproc_per_node 8 tools/train.py upernet_vitadapter_t --launcher pytorch
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViTAdapter',
        arch='t_seg',
        drop_path_rate=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
    ),
    decode_head=dict(in_channels=[192] * 4),
    auxiliary_head=dict(in_channels=192),
)
optim_wrapper = dict(optimizer=dict(lr=12e-5))
