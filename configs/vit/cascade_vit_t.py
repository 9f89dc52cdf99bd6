# Cascade Mask R-CNN, plain ViT-T with DeiT weights, windowed attention and a simple feature
# pyramid, COCO 1x: the baseline of cascade_vitcomer_t.py. There are no published figures.
_base_ = [
    '../_base_/models/cascade_mask_rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViT',
        arch='t',
        class_token=False,
        windows=[14, 14, 0] * 4,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='deit_tiny_patch16_224'),
    ),
    neck=dict(
        _delete_=True,
        type='mmhybrid.SimplePyramid',
        in_channels=192,
        out_channels=256,
        strides=[4, 8, 16, 32, 64],
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(no_decay=('pos_embed',)))
