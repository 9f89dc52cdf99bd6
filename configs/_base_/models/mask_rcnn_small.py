# Mask R-CNN, a quarter as wide, with norms everywhere and fewer proposals: for training from random
# weights, and on CPUs. A config adds the backbone and the neck's in_channels.
_base_ = './mask_rcnn_fpn.py'

width = 64
norm_cfg = dict(type='BN', requires_grad=True)  # from random weights every part wants norms
model = dict(
    neck=dict(out_channels=width, norm_cfg=norm_cfg),
    # In small images objects are small: the smallest anchors are squares of 16 pixels.
    rpn_head=dict(in_channels=width, feat_channels=width, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(
            type='ConvFCBBoxHead',
            num_shared_convs=1,
            num_shared_fcs=1,
            conv_out_channels=width,
            in_channels=width,
            fc_out_channels=256,
            reg_class_agnostic=True,
            norm_cfg=norm_cfg,
        ),
        mask_roi_extractor=dict(out_channels=width),
        mask_head=dict(num_convs=2, in_channels=width, conv_out_channels=width, norm_cfg=norm_cfg),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=128)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)),
)
