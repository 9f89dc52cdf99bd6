# Plain ViT-S with DINOv3 weights, COCO 1x: maskrcnn_vitcomer_s_dinov3.py without its adapter. There
# are no published figures.
_base_ = './maskrcnn_vit_s_dinov2.py'

model = dict(
    backbone=dict(
        arch='dinov3_s',
        pretrain_size=224,
        num_registers=0,
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
    )
)
