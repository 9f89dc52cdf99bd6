# Pascal VOC 2012, 20 classes and background.
_base_ = './ade20k.py'

data_root = '{{$MMHYBRID_DATA:data}}/VOCdevkit/VOC2012'
_folders = dict(img_path='JPEGImages', seg_map_path='SegmentationClass')

train_dataloader = dict(
    dataset=dict(
        type='PascalVOCDataset',
        data_root=data_root,
        data_prefix=_folders,
        ann_file='ImageSets/Segmentation/train.txt',
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='PascalVOCDataset',
        data_root=data_root,
        data_prefix=_folders,
        ann_file='ImageSets/Segmentation/val.txt',
    ),
)
test_dataloader = val_dataloader
