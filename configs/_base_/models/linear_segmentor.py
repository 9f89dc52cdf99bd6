# A linear head on the maps of a backbone, the one that DINOv2 and DINOv3 are evaluated by: batch norm,
# dropout and a 1x1 convolution. A config adds the backbone, the in_channels of neck and head, and
# the head's channels, which are their sum; with in_index=[0, 1, 2, 3] the head takes four maps.
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    neck=dict(type='mmhybrid.BatchNormNeck', norm_cfg=norm_cfg),
    decode_head=dict(
        type='FCNHead',
        in_index=[0],
        input_transform='resize_concat',
        num_convs=0,
        kernel_size=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
