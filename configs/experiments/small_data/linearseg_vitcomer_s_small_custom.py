# A linear head on the four maps of ViT-CoMer-S over DINOv2's ViT-S, frozen, in the study of small
# data; README.md. The head bears a higher rate than the pyramid.
_base_ = ['../../_base_/models/linear_segmentor.py', '../../_base_/custom_semantic.py']

_vit = dict(arch='dinov2_s', patch_size=16, pretrain_size=592, class_token=True)
model = dict(
    backbone=dict(
        type='mmhybrid.ViTCoMer',
        arch='s_seg',
        vit=_vit,
        freeze='vit',
        cti_to_vit=False,
        final_norm=True,
        pyramid_scale=0.0,
    ),
    neck=dict(in_channels=[384] * 4, norm_cfg=dict(type='BN')),
    decode_head=dict(in_channels=[384] * 4, channels=4 * 384, in_index=[0, 1, 2, 3]),
    test_cfg=dict(_delete_=True, mode='whole'),
)
optim_wrapper = dict(paramwise_cfg=dict(backbone_lr_mult=0.1))
