# Mask2Former, ViT-CoMer-L with BEiTv2 weights, ADE20K at 896 pixels: 61.7 mIoU, single scale, and
# 62.1, multi-scale (arXiv 2403.07392, Table 7). The authors publish no config of it: the recipe is
# that of ViT-Adapter-L, which they compare with, and the width of MRFP that of their COCO-Stuff
# model, with which it begins (they print 604 M parameters, one of this width has 634):
#
#   torchrun ... tools/train.py mask2former_vitcomer_l --launcher pytorch --cfg-options \
#       load_from=work_dirs/mask2former_vitcomer_l_cocostuff/iter_80000.pth
_base_ = [
    '../_base_/models/mask2former_wide.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/mask2former_80k.py',
    '../_base_/mmseg_runtime.py',
]

crop_size = (896, 896)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        type='mmhybrid.ViTCoMer',
        arch='l',
        windows=0,
        vit_features='stages',
        mrfp_ratio=6.0,
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
    decode_head=dict(in_channels=[1024] * 4),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(512, 512)),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomResize', scale=(3584, 896), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(3584, 896), keep_ratio=True),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(batch_size=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
