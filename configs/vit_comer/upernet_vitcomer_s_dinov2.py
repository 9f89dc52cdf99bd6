# ViT-CoMer-S with DINOv2 weights. There are no published figures; the recipe is that of
# upernet_vitcomer_s.py, with the layer decay of these weights in detection.
_base_ = './upernet_vitcomer_s.py'

model = dict(
    backbone=dict(
        vit=dict(pretrain_size=592),
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vits14'),
    )
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.70))
