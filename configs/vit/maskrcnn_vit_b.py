# Mask R-CNN, plain ViT-B with DeiT weights, windowed attention and a simple feature pyramid, COCO
# 1x: the baseline that ViT-CoMer is compared with. Its authors' table gives 42.9 box AP and 39.4
# mask AP, with a pyramid of their own; drop path and weight decay are theirs, without layer decay.
#
#   torchrun --nproc_per_node 8 tools/train.py configs/vit/maskrcnn_vit_b.py --launcher pytorch
_base_ = [
    '../_base_/models/mask_rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViT',
        arch='b',
        class_token=False,
        windows=[14, 14, 0] * 4,
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='deit_base_patch16_224'),
    ),
    neck=dict(
        _delete_=True,
        type='mmhybrid.SimplePyramid',
        in_channels=768,
        out_channels=256,
        strides=[4, 8, 16, 32, 64],
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(no_decay=('pos_embed',)))
