# RetinaNet, ViT_C-4GF with windowed attention and a simple feature pyramid, COCO 1x at one scale.
# For weights see maskrcnn_vitc_4gf.py.
_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ConvStemViT',
        arch='c_4gf',
        class_token=False,
        windows=[14, 14, 0, 14, 14, 0, 14, 14, 0, 14, 0],
        drop_path_rate=0.1,
    ),
    neck=dict(
        _delete_=True,
        type='mmhybrid.SimplePyramid',
        in_channels=384,
        out_channels=256,
        strides=[8, 16, 32, 64, 128],
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(no_decay=('pos_embed',)))
