# Mask R-CNN, ViT_C-4GF with windowed attention and a simple feature pyramid, COCO 1x: the recipe of
# the plain ViT. Its authors publish no weights and nothing on detection. To begin with the weights
# of imagenet_vitc_4gf.py:
#
#   --cfg-options "model.backbone.init_cfg={'type':'Pretrained','checkpoint':'FILE'}"
_base_ = [
    '../_base_/models/mask_rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
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
        strides=[4, 8, 16, 32, 64],
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(no_decay=('pos_embed',)))
