# Classes of your own images: all of a config but its model.
_base_ = ['./datasets/custom_classification.py', './schedules/custom.py', './mmpretrain_runtime.py']

default_hooks = dict(
    logger=dict(interval=None, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=None, save_best='accuracy/top1'),
)
log_processor = dict(by_epoch=False)
