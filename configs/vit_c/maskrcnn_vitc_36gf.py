# ViT_C-36GF, COCO 1x: it has 13 blocks.
_base_ = './maskrcnn_vitc_4gf.py'

model = dict(
    backbone=dict(
        arch='c_36gf',
        windows=[14, 14, 14, 0, 14, 14, 0, 14, 14, 0, 14, 14, 0],
        drop_path_rate=0.4,
    ),
    neck=dict(in_channels=1024),
)
