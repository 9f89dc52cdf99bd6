# UPerNet, ViT-CoMer-B with DeiT weights, COCO-Stuff 164k, 80k steps of 16 images (8 GPUs x 2). There
# are no published figures; rates and drop path are those on ADE20K.
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/cocostuff.py',
    '../_base_/schedules/semantic_80k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViTCoMer',
        arch='b_seg',
        drop_path_rate=0.3,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='deit_base_patch16_224'),
    ),
    decode_head=dict(in_channels=[768] * 4, num_classes=171),
    auxiliary_head=dict(in_channels=768, num_classes=171),
)
