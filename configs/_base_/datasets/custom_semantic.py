# Your own images, and for each a mask of the same name: one byte a pixel, the number of a class. The
# options, all through --cfg-options:
#
#   data_root=PATH                the folder; docs/data.md shows what is expected in it
#   classes=road,sky,tree         the names of the classes 0, 1, 2, or how many there are: classes=3;
#                                 if not given, the lines of classes.txt in the folder
#   palette=[[128,64,128],...]    a colour for each class, for pictures
#   ignore_index=255              the value of pixels that have no class
#   reduce_zero_label=True        classes are numbered from 1, and 0 is "no class"
#   mask_folder.train_img=FOLDER  another image or mask folder, relative to data_root; also
#                                 train_mask, val_img, val_mask
#   mask_folder.mask_suffix=_mask.png
#                                 what replaces the image's suffix in the name of its mask; the
#                                 image's suffix, img_suffix, is found in the folder
#   mask_folder.val_fraction=0.2
#                                 how much of a folder without a validation part validates
#   image_size=1024,512           longest and shortest side that images are scaled to fit
#   crop_size=512,512             height and width of the pieces that are trained on
#   train_dataloader.batch_size=8
#
# What is missing below (paths, class names and counts, sizes) follows from the options when a tool
# reads the config.
data_root = '{{$MMHYBRID_DATA:data}}/custom'
classes = None
palette = None
ignore_index = 255
reduce_zero_label = False
mask_folder = dict(
    train_img='images/train',
    train_mask='annotations/train',
    val_img='images/val',
    val_mask='annotations/val',
    img_suffix=None,
    mask_suffix='.png',
    val_fraction=None,
    val_seed=0,
)
image_size = (1024, 512)
crop_size = (512, 512)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='BaseSegDataset', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='BaseSegDataset', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
auto_scale_lr = dict(enable=False, base_batch_size=4)
