# UPerNet, ViT-CoMer-T with DeiT weights, Pascal VOC 2012, 80k steps of 16 images (8 GPUs x 2). There
# are no published figures; rates and drop path are those on ADE20K.
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/voc_semantic.py',
    '../_base_/schedules/semantic_80k.py',
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
    decode_head=dict(in_channels=[192] * 4, num_classes=21),
    auxiliary_head=dict(in_channels=192, num_classes=21),
)
optim_wrapper = dict(optimizer=dict(lr=12e-5))
