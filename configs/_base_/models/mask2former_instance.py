# Mask2Former for instance segmentation: the panoptic one without stuff. A config adds the backbone
# and the head's in_channels.
_base_ = './mask2former_panoptic.py'

num_things, num_stuff = 80, 0
model = dict(
    data_preprocessor=dict(pad_seg=False),
    panoptic_head=dict(
        num_things_classes=num_things,
        num_stuff_classes=num_stuff,
        loss_cls=dict(class_weight=[1.0] * num_things + [0.1]),
    ),
    panoptic_fusion_head=dict(num_things_classes=num_things, num_stuff_classes=num_stuff),
    test_cfg=dict(panoptic_on=False),
)
