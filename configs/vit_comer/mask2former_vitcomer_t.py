# Mask2Former, ViT-CoMer-T with DeiT weights, ADE20K, 160k steps. The authors publish this head on L
# alone (mask2former_vitcomer_l.py): the recipe is that of Mask2Former itself.
_base_ = [
    '../_base_/models/mask2former.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_mask2former_160k.py',
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
    decode_head=dict(in_channels=[192] * 4),
)
