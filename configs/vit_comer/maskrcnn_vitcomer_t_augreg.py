# ViT-CoMer-T with AugReg weights (ImageNet-22K, then 1K), which want pixels from -1 to 1. There are
# no published figures; the recipe is that of maskrcnn_vitcomer_t.py.
_base_ = '../maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        arch='t',
        vit=dict(pretrain_size=224),
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='augreg_vit_tiny_patch16_224'),
    ),
    neck=dict(in_channels=[192] * 4),
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0, no_decay=('pos_embed',)))
