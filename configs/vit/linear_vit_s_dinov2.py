# Plain ViT-S with DINOv2 weights, frozen, at its own patch size of 14 pixels. The authors' linear
# classifier, over the class token too, has 81.1 top-1 (arXiv 2304.07193): another head and recipe.
_base_ = './linear_vit_t.py'

width = 384
model = dict(
    backbone=dict(
        arch='dinov2_s',
        init_cfg=dict(type='Pretrained', checkpoint='dinov2_vits14'),
    ),
    neck=[
        dict(type='GlobalAveragePooling'),
        dict(type='ClsBatchNormNeck', input_features=width),
    ],
    head=dict(in_channels=width),
)
