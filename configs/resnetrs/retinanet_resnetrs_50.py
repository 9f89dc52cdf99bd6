# RetinaNet, ResNet-RS-50 of timm, COCO 1x at one scale. With its published weights, which timm
# fetches: --cfg-options model.backbone.pretrained=True
_base_ = [
    '../_base_/models/retinanet_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/mmdet_runtime.py',
]
custom_imports = dict(imports=['mmpretrain.models'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        type='mmpretrain.TIMMBackbone',
        model_name='resnetrs50',
        features_only=True,
        pretrained=False,
        out_indices=[1, 2, 3, 4],
        drop_path_rate=0.1,
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
# timm's models tell no layer depths: no norm and no bias decays, all learn at one rate.
optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
