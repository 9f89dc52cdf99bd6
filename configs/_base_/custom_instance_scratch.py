# Boxes and masks on your own images from random weights, on a CPU if need be: narrow heads, small
# images. A config adds the backbone and the neck's in_channels.
_base_ = [
    './models/mask_rcnn_small.py',
    './datasets/custom_instance.py',
    './schedules/custom_scratch.py',
    './mmdet_runtime.py',
]

image_size = (480, 360)
# In small images objects are small: the smallest anchors are squares of 16 pixels.
model = dict(rpn_head=dict(anchor_generator=dict(scales=[4])))
default_hooks = dict(
    logger=dict(interval=None),
    checkpoint=dict(by_epoch=False, interval=None, save_best='coco/bbox_mAP'),
)
log_processor = dict(by_epoch=False)
