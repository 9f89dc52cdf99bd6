# RetinaNet, CMT-S, COCO 1x at one scale, as in the paper: 44.3 AP (arXiv 2107.06263, Table 6). The
# paper does not name learning rate, weight decay and drop path: they are those of other
# Transformers of this size.
#
#   torchrun --nproc_per_node 8 tools/train.py configs/cmt/retinanet_cmt_s.py --launcher pytorch
_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.CMT',
        arch='s',
        drop_path_rate=0.1,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='cmt_small'),
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
