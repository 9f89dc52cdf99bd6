# Plain ViT-B with DINOv2 weights, COCO 1x: maskrcnn_vitcomer_b.py without its adapter. There are no
# published figures.
_base_ = './maskrcnn_vit_b.py'

model = dict(
    backbone=dict(
        pretrain_size=592,
        layer_scale=1.0,
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vitb14'),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.60, no_decay=()))
