# Boxes and masks on your own images: all of a config but its model.
_base_ = ['./datasets/custom_instance.py', './schedules/custom.py', './mmdet_runtime.py']

default_hooks = dict(
    logger=dict(interval=None, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=None, save_best='coco/bbox_mAP'),
)
log_processor = dict(by_epoch=False)
