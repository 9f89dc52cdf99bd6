# ViT-CoMer-L with AugReg weights (ImageNet-22K, then 1K at 384 pixels), COCO 1x: 51.4 box AP and
# 45.2 mask AP (arXiv 2403.07392, Table 1). The authors publish no config of L: layer decay and
# image normalisation are those of ViT-Adapter-L with these weights.
_base_ = '../maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        arch='l',
        windows=[14, 14, 14, 14, 14, 0],
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='augreg_vit_large_patch16_384'),
        vit=dict(pretrain_size=384),
    ),
    neck=dict(in_channels=[1024] * 4),
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.80))
