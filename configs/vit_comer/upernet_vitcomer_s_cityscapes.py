# UPerNet, ViT-CoMer-S with DeiT weights, Cityscapes, 80k steps of 16 images (8 GPUs x 2). There are
# no published figures; rates and drop path are those on ADE20K.
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/semantic_80k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    data_preprocessor=dict(size={{_base_.crop_size}}),
    backbone=dict(
        type='mmhybrid.ViTCoMer',
        arch='s_seg',
        drop_path_rate=0.2,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='deit_small_patch16_224'),
    ),
    decode_head=dict(in_channels=[384] * 4, num_classes=19),
    auxiliary_head=dict(in_channels=384, num_classes=19),
    test_cfg=dict(crop_size={{_base_.crop_size}}, stride=(341, 683)),
)
