# Semantic FPN, STA-L over DINOv3-S with a level of stride 4, ADE20K, 80k steps. There are no
# published figures; the recipe is PVT's, with a tenth of the learning rate for the ViT.
_base_ = [
    '../_base_/models/semantic_fpn.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_80k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.STA',
        arch='l',
        out_indices=[0, 1, 2, 3],  # the head begins at stride 4
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
    ),
    neck=dict(in_channels=[224] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone.vit': dict(lr_mult=0.1)}))
