# Mask R-CNN, ViT-CoMer-B with DINOv2 weights, COCO 1x: the recipe its authors publish, on 8 GPUs
# with 2 images each. Their table gives 52.0 box AP and 45.5 mask AP (arXiv 2403.07392, Table 1).
#
#   torchrun --nproc_per_node 8 tools/train.py configs/maskrcnn_vitcomer_b.py --launcher pytorch
_base_ = [
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/datasets/coco_instance.py',
    './_base_/schedules/coco_1x.py',
    './_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.ViTCoMer',
        arch='b',
        # The 37 x 37 positions of DINOv2 are kept: with its patches resized from 14 to 16 pixels
        # they are those of an image of 37 * 16 pixels.
        vit=dict(pretrain_size=592),
        drop_path_rate=0.3,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vitb14'),
    ),
    neck=dict(in_channels=[768] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.60))
