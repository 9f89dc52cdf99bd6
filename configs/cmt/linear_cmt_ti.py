# CMT-Ti, frozen, at 224 pixels.
_base_ = '../vit/linear_vit_t.py'

width = 368
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmhybrid.CMT',
        arch='ti',
        out_indices=[3],
        frozen_stages=4,
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='cmt_tiny'),
    ),
    neck=[
        dict(type='GlobalAveragePooling'),
        dict(type='ClsBatchNormNeck', input_features=width),
    ],
    head=dict(in_channels=width),
)
