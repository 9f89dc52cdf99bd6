# STA-S over ViT-Tiny with rotary positions, see retinanet_sta_s.py. As ViT-CoMer-T it learns at twice
# the rate, with less difference between layers.
_base_ = './upernet_sta_l.py'

model = dict(
    backbone=dict(
        arch='s',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='vitt_distill'),
    ),
    decode_head=dict(in_channels=[192] * 4),
    auxiliary_head=dict(in_channels=192),
)
optim_wrapper = dict(optimizer=dict(lr=12e-5), paramwise_cfg=dict(layer_decay_rate=0.95))
