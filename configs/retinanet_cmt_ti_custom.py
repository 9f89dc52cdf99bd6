# RetinaNet with CMT-Ti on your own images, annotated in COCO format; boxes are enough:
#
#   python tools/train.py configs/retinanet_cmt_ti_custom.py \
#       --cfg-options data_root=/data/street weights=cmt_tiny
#
# Folder and options are those of maskrcnn_vitcomer_t_custom.py; see docs/data.md.
_base_ = [
    './_base_/models/retinanet_fpn.py',
    './_base_/datasets/custom_detection.py',
    './_base_/schedules/custom.py',
    './_base_/mmdet_runtime.py',
]

model = dict(
    backbone=dict(type='mmhybrid.CMT', arch='ti', drop_path_rate=0.1),
    neck=dict(in_channels=[46, 92, 184, 368]),
)
default_hooks = dict(
    logger=dict(interval=None, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=None, save_best='coco/bbox_mAP'),
)
log_processor = dict(by_epoch=False)
