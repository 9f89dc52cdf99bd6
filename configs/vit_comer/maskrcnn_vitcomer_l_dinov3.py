# ViT-CoMer-L with DINOv3 weights, which are handed out on request (docs/weights.md) and bring
# rotary positions. Windows have no place for the register tokens: they are left out. There are no
# published figures; the recipe is that of maskrcnn_vitcomer_l.py with DINOv2.
_base_ = '../maskrcnn_vitcomer_b.py'

model = dict(
    backbone=dict(
        arch='l',
        windows=[14, 14, 14, 14, 14, 0],
        drop_path_rate=0.4,
        init_cfg=dict(type='Pretrained', checkpoint='dinov3_vitl16'),
        vit=dict(_delete_=True, arch='dinov3_l', num_registers=0),
    ),
    neck=dict(in_channels=[1024] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
