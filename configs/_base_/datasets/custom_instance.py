# Your own images with boxes and masks, in COCO format. The options, all through --cfg-options:
#
#   data_root=PATH                the folder; docs/data.md shows what is expected in it
#   classes=car,pedestrian        some of the annotated classes; all of them if not given
#   coco_folder.train_ann=FILE    another annotation file or image folder, relative to data_root;
#                                 also val_ann, train_img, val_img
#   coco_folder.val_fraction=0.2
#                                 how much of a folder without a validation part validates
#   image_size=800,608            longest and shortest side that images are scaled to fit
#   train_dataloader.batch_size=4
#
# What is missing below (paths, class names and counts, sizes) follows from the options when a tool
# reads the config.
data_root = '{{$MMHYBRID_DATA:data}}/custom'
classes = None
coco_folder = dict(
    train_ann='annotations/instances_train.json',
    train_img='images/train',
    val_ann='annotations/instances_val.json',
    val_img='images/val',
    val_fraction=None,
    val_seed=0,
)
image_size = (800, 608)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', ratio_range=(0.7, 1.2), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
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

val_evaluator = dict(type='CocoMetric', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
auto_scale_lr = dict(enable=False, base_batch_size=2)
