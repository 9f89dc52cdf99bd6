# Plain ViT-L with AugReg weights, COCO 1x: 45.7 box AP and 41.5 mask AP, with a pyramid of the
# authors' own (arXiv 2403.07392, Table 1). Windows, drop path and layer decay are those of
# ViT-Adapter's baseline.
_base_ = './maskrcnn_vit_b.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        arch='l',
        pretrain_size=384,
        windows=[14, 14, 14, 14, 14, 0] * 4,
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='augreg_vit_large_patch16_384'),
    ),
    neck=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.80, no_decay=()))
