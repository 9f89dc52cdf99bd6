# ViT-CoMer-L with BEiTv2 weights. There are no published figures with this head (the authors'
# Co-DETR on them has 62.1 box AP); a layer decay of 0.80 as in BEiTv2's own fine-tuning (arXiv
# 2208.06366).
_base_ = '../maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        arch='l',
        windows=[14, 14, 14, 14, 14, 0],
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='beitv2_large_patch16_224_pt1k_ft21k'),
        vit=dict(position='relative', mask_key_bias=True, layer_scale=1e-5, pretrain_size=224),
    ),
    neck=dict(in_channels=[1024] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.80))
