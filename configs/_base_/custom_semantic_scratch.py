# Classes of pixels on your own images from random weights, on a CPU if need be: narrow heads, small
# images. A config adds the backbone and the heads' in_channels.
_base_ = [
    './models/upernet_small.py',
    './datasets/custom_semantic.py',
    './schedules/custom_scratch.py',
    './mmseg_runtime.py',
]

image_size = (480, 360)
crop_size = (256, 256)
default_hooks = dict(logger=dict(interval=None), checkpoint=dict(interval=None, save_best='mIoU'))
