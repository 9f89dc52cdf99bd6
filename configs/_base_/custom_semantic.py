# Classes of pixels on your own images: all of a config but its model.
_base_ = ['./datasets/custom_semantic.py', './schedules/custom.py', './mmseg_runtime.py']

default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=500, save_best='mIoU'))
