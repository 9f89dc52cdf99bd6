# ViT-CoMer-S with DINOv3 weights, which are handed out on request (docs/weights.md); attention is
# global here, so that class and register tokens stay. There are no published figures.
_base_ = './upernet_vitcomer_s.py'

model = dict(
    backbone=dict(
        vit=dict(arch='dinov3_s', class_token=True),
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.70))
