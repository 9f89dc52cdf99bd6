# A linear classifier over CMT-Ti on your own images, in one folder a class:
#
#   python tools/train.py configs/linear_cmt_ti_custom.py \
#       --cfg-options data_root=/data/flowers weights=cmt_tiny
#
# docs/data.md shows the folder; its options head _base_/datasets/custom_classification.py, those of
# the training _base_/schedules/custom.py. The config that is saved in the work dir holds the class
# names and paths, and serves tools/test.py and tools/infer.py.
_base_ = './_base_/custom_classification.py'

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
    ),
    backbone=dict(type='mmhybrid.CMT', arch='ti', drop_path_rate=0.1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=368,
        topk=(1,),
        loss=dict(type='CrossEntropyLoss'),
    ),
)
