# ViT-Adapter-B with DINOv2 weights, COCO 3x, as published: 54.1 box AP and 47.8 mask AP.
_base_ = './maskrcnn_vitadapter_b_3x.py'

model = dict(
    backbone=dict(
        vit=dict(pretrain_size=592),
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vitb14'),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.60, no_decay=()))
