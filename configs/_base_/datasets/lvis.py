# LVIS v1, 1203 classes: COCO's images with annotations of its own. Images of rare classes are drawn
# more often. Data set and metric need the package lvis (pip install lvis).
_base_ = './coco_instance.py'

data_root = '{{$MMHYBRID_DATA:data}}/lvis_v1'

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ClassBalancedDataset',
        oversample_thr=1e-3,
        dataset=dict(
            type='LVISV1Dataset',
            data_root=data_root,
            ann_file='annotations/lvis_v1_train.json',
            data_prefix=dict(img=''),  # a file of annotations names the folder of each image
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline={{_base_.train_pipeline}},
        ),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='LVISV1Dataset',
        data_root=data_root,
        ann_file='annotations/lvis_v1_val.json',
        data_prefix=dict(img=''),
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type='mmhybrid.LVISMetric', ann_file=data_root + '/annotations/lvis_v1_val.json'
)
test_evaluator = val_evaluator
