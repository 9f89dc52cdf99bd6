# UPerNet, ResNet-RS-50 of timm, ADE20K, 160k steps. With its published weights, which timm
# fetches: --cfg-options model.backbone.pretrained=True
_base_ = [
    '../_base_/models/upernet.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_160k.py',
    '../_base_/mmseg_runtime.py',
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
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)
# timm's models tell no layer depths: no norm and no bias decays, all learn at one rate.
optim_wrapper = dict(
    constructor='DefaultOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0, bias_decay_mult=0.0),
)
