# Mask R-CNN, ViT-CoMer-S over a frozen ViT-S with DINOv3 weights, COCO 1x. There are no published
# figures.
_base_ = [
    '../_base_/backbones/vitcomer_frozen.py',
    '../_base_/models/mask_rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(backbone={{_base_._backbone}}, neck=dict(in_channels=[384] * 4))
