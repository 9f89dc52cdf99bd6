# COCO-Stuff 164k, 171 classes of things and stuff, with the class maps that MMSegmentation's
# coco_stuff164k.py converts.
_base_ = './semantic.py'

data_root = '{{$MMHYBRID_DATA:data}}/coco_stuff164k'

train_dataloader = dict(
    dataset=dict(
        type='COCOStuffDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/train2017', seg_map_path='annotations/train2017'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='COCOStuffDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
    ),
)
test_dataloader = val_dataloader
