# DINO with ViT-CoMer over a frozen ViT, on your own images, annotated in COCO format; boxes are enough.
# The weights tell the ViT:
#
#   python tools/train.py configs/dino_vitcomer_s_frozen_custom.py \
#       --cfg-options data_root=/data/street weights=dinov3_vits16
#
# Folder and options are those of maskrcnn_vitcomer_t_custom.py; docs/dinov3.md goes through all of it.
_base_ = [
    './_base_/backbones/vitcomer_frozen.py',
    './_base_/models/dino.py',
    './_base_/datasets/custom_detection.py',
    './_base_/schedules/custom.py',
    './_base_/mmdet_runtime.py',
]

model = dict(backbone={{_base_._backbone_from_8}}, neck=dict(in_channels=[384] * 3))
optim_wrapper = dict(clip_grad=dict(max_norm=0.1))
default_hooks = dict(
    logger=dict(interval=None, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=None, save_best='coco/bbox_mAP'),
)
log_processor = dict(by_epoch=False)
