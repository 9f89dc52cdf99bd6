# Plain ViT-L with DINOv2 weights, COCO 1x: maskrcnn_vitcomer_l.py without its adapter. There are no
# published figures.
_base_ = './maskrcnn_vit_b.py'

model = dict(
    backbone=dict(
        arch='l',
        pretrain_size=592,
        windows=[14, 14, 14, 14, 14, 0] * 4,
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vitl14'),
        layer_scale=1.0,
    ),
    neck=dict(in_channels=1024),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65, no_decay=()))
