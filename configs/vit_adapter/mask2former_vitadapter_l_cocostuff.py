# Mask2Former, ViT-Adapter-L with BEiTv2 weights, COCO-Stuff 164k at 896 pixels, 80k steps: the
# recipe its authors publish, on 16 GPUs with an image each. Their table gives 52.3 mIoU, single
# scale.
#
#   torchrun ... tools/train.py mask2former_vitadapter_l_cocostuff --launcher pytorch
_base_ = [
    '../_base_/models/mask2former_wide.py',
    '../_base_/datasets/cocostuff.py',
    '../_base_/schedules/mask2former_80k.py',
    '../_base_/mmseg_runtime.py',
]

num_classes = 171
crop_size = (896, 896)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        type='mmhybrid.ViTAdapter',
        arch='l_seg',
        vit=dict(
            position='relative',
            class_token=True,
            mask_key_bias=True,
            layer_scale=1e-6,
            pretrain_size=896,
        ),
        drop_path_rate=0.3,
        with_cp=True,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='beitv2_large_patch16_224_pt1k_ft21k'),
    ),
    decode_head=dict(
        in_channels=[1024] * 4,
        num_classes=num_classes,
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1]),
    ),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(512, 512)),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(3584, 896), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(3584, 896), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
