# Plain ViT-L with DINOv2 weights, COCO 1x: maskrcnn_vitcomer_l.py without its adapter. There are no
# published figures.
_base_ = './maskrcnn_vit_l.py'

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        pretrain_size=592,
        layer_scale=1.0,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vitl14'),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
