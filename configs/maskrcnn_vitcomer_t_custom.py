# Mask R-CNN with ViT-CoMer-T on your own images, annotated in COCO format:
#
#   python tools/train.py configs/maskrcnn_vitcomer_t_custom.py \
#       --cfg-options data_root=/data/street weights=deit_tiny_patch16_224
#
# docs/data.md shows the folder; its options head _base_/datasets/custom_instance.py, those of the
# training _base_/schedules/custom.py. COCO box and mask AP are printed during and after the
# training. The config that is saved in the work dir holds the class names and paths, and serves
# tools/test.py and tools/infer.py.
_base_ = ['./_base_/models/mask_rcnn_fpn.py', './_base_/custom_instance.py']

model = dict(
    backbone=dict(type='mmhybrid.ViTCoMer', arch='t', drop_path_rate=0.1),
    neck=dict(in_channels=[192] * 4),
)
