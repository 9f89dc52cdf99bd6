# Mask R-CNN, CvT-13, COCO 1x. Its authors publish nothing on detection: the recipe is that of other
# Transformers of this size. CvT has maps of strides 4, 8 and 16; convolutions in the pyramid add
# 32 and 64. Its weights lie in the model zoo that github.com/microsoft/CvT links to; put the file
# where `checkpoint` says.
_base_ = [
    '../_base_/models/mask_rcnn_fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(
        type='mmhybrid.CvT',
        arch='13',
        drop_path_rate=0.1,
        proj_norm_cfg=dict(type='SyncBN', requires_grad=True),
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/CvT-13-224x224-IN-1k.pth'),
    ),
    neck=dict(in_channels=[64, 192, 384], add_extra_convs='on_output'),
)
