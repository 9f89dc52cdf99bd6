# ViT-CoMer-S with DINOv2 weights. There are no published figures; the recipe is that of
# upernet_vitcomer_s.py, with the layer decay of these weights in detection.
_base_ = './upernet_vitcomer_t.py'

model = dict(
    backbone=dict(
        arch='s_seg',
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vits14'),
        vit=dict(pretrain_size=592),
    ),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(optimizer=dict(lr=6e-5), paramwise_cfg=dict(layer_decay_rate=0.70))
