# RetinaNet with CMT-Ti on your own images, annotated in COCO format:
#
#   python tools/train.py configs/retinanet_cmt_ti_custom.py \
#       --cfg-options data_root=/data/street weights=cmt_tiny
#
# The folder is expected to hold images/train, images/val, annotations/instances_train.json and
# annotations/instances_val.json; the class names are read from the annotation file. Options, all
# through --cfg-options:
#
#   data_root=PATH                the folder
#   classes=car,pedestrian        some of the annotated classes; all of them if not given
#   coco_folder.train_ann=FILE    another annotation file or image folder, relative to data_root;
#                                 also val_ann, train_img, val_img
#   weights=NAME, PATH or URL     weights of CMT-Ti to begin with. They are worth a lot when
#                                 images are few: give them unless you are offline
#   max_iters=3000                training steps; the learning rate follows
#   image_size=800,608            longest and shortest side that images are scaled to fit
#   train_dataloader.batch_size=4, optim_wrapper.optimizer.lr=2e-4, as in any config
#
# COCO box AP is printed during and after the training. The config that is saved in the
# work dir holds the class names and paths, and serves tools/test.py and tools/infer.py.
_base_ = ['./_base_/models/retinanet_fpn.py', './_base_/mmdet_runtime.py']

data_root = 'data/custom'
classes = None
coco_folder = dict(
    train_ann='annotations/instances_train.json',
    train_img='images/train',
    val_ann='annotations/instances_val.json',
    val_img='images/val',
)
weights = None
max_iters = 3000
image_size = (800, 608)

# What is missing below (paths, class names and counts, sizes, the schedule's end) follows from the
# options above when a tool reads this config.
model = dict(
    backbone=dict(type='mmhybrid.CMT', arch='ti', drop_path_rate=0.1),
    neck=dict(in_channels=[46, 92, 184, 368]),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', ratio_range=(0.7, 1.2), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='CocoDataset', filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CocoDataset', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', metric='bbox')
test_evaluator = val_evaluator

train_cfg = dict(type='IterBasedTrainLoop', val_interval=500)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# Few images need small steps at first, a bounded gradient, and a rate that falls smoothly to zero.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=5.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, eta_min=0.0),
]
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(by_epoch=False, interval=500, save_best='auto')
)
log_processor = dict(by_epoch=False)
