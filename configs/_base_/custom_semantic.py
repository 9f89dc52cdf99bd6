# Classes of pixels on your own images: all of a config but its model.
_base_ = ['./datasets/custom_semantic.py', './schedules/custom.py', './mmseg_runtime.py']

default_hooks = dict(logger=dict(interval=None), checkpoint=dict(interval=None, save_best='mIoU'))
