# ViT-CoMer-B with BEiTv2 weights, which bring relative positions and LayerScale. There are no
# published figures; the recipe is that of maskrcnn_vitcomer_b.py, with a layer decay of 0.75 as in
# BEiTv2's own fine-tuning (arXiv 2208.06366).
_base_ = '../maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        vit=dict(position='relative', mask_key_bias=True, layer_scale=0.1, pretrain_size=224),
        init_cfg=dict(type='Pretrained', checkpoint='beitv2_base_patch16_224_pt1k_ft21k'),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
