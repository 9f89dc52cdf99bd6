# Plain ViT-S with DINOv3 weights, COCO 1x: maskrcnn_vitcomer_s_dinov3.py without its adapter. There
# are no published figures.
_base_ = './maskrcnn_vit_b.py'

model = dict(
    backbone=dict(
        arch='dinov3_s',
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
        pretrain_size=224,
        layer_scale=1.0,
        drop_path_rate=0.2,
        num_registers=0,
    ),
    neck=dict(in_channels=384),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.70, no_decay=()))
