# ViT-CoMer-B with BEiTv2 weights, which bring relative positions. There are no published figures;
# the recipe is that of upernet_vitcomer_b.py, with a layer decay of 0.75 as in BEiTv2's own
# fine-tuning (arXiv 2208.06366).
_base_ = './upernet_vitcomer_t.py'

model = dict(
    backbone=dict(
        arch='b_seg',
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='beitv2_base_patch16_224_pt1k_ft21k'),
        vit=dict(position='relative', mask_key_bias=True, layer_scale=0.1, pretrain_size=512),
    ),
    decode_head=dict(in_channels=[768] * 4),
    auxiliary_head=dict(in_channels=768),
)
optim_wrapper = dict(
    optimizer=dict(lr=6e-5, weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=0.75)
)
