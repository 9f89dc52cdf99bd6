# Your own images in one folder a class. The options, all through --cfg-options:
#
#   data_root=PATH                the folder; docs/data.md shows what is expected in it
#   class_folder.train=FOLDER     another folder of the classes' folders, relative to data_root; also
#                                 val
#   class_folder.val_fraction=0.2
#                                 how much of a folder without a validation part validates
#   image_size=224                side of the square that images are cut and scaled to
#   train_dataloader.batch_size=64
#
# What is missing below (paths, class names and counts, sizes) follows from the options when a tool
# reads the config.
data_root = '{{$MMHYBRID_DATA:data}}/custom'
class_folder = dict(train='train', val='val', val_fraction=None, val_seed=0)
image_size = 224

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', crop_ratio_range=(0.3, 1.0), interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', edge='short', interpolation='bicubic'),
    dict(type='CenterCrop'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='CustomDataset', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
auto_scale_lr = dict(enable=False, base_batch_size=32)
