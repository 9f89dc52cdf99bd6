# Plain ViT-B with BEiTv2 weights, COCO 1x: maskrcnn_vitcomer_b_beitv2.py without its adapter. There
# are no published figures.
_base_ = './maskrcnn_vit_b.py'

model = dict(
    backbone=dict(
        position='relative',
        mask_key_bias=True,
        layer_scale=0.1,
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='beitv2_base_patch16_224_pt1k_ft21k'),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75, no_decay=()))
