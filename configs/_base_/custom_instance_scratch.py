# Boxes and masks on your own images from random weights, on a CPU if need be: narrow heads, small
# images. A config adds the backbone and the neck's in_channels.
_base_ = [
    './models/mask_rcnn_small.py',
    './datasets/custom_instance.py',
    './schedules/custom_scratch.py',
    './mmdet_runtime.py',
]

image_size = (480, 360)
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(by_epoch=False, interval=500, save_best='coco/bbox_mAP'),
)
log_processor = dict(by_epoch=False)
