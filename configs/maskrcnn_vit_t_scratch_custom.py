# Mask R-CNN with plain ViT-T, narrow and from random weights, on your own images: windows as in
# ViT-CoMer, and a simple pyramid; see maskrcnn_vitcomer_t_scratch_custom.py.
_base_ = ['./_base_/models/mask_rcnn_small.py', './_base_/custom_instance_scratch.py']

model = dict(
    backbone=dict(
        type='mmhybrid.ViT',
        arch='t',
        class_token=False,
        windows=[14, 14, 0] * 4,
        drop_path_rate=0.1,
    ),
    neck=dict(
        _delete_=True,
        type='mmhybrid.SimplePyramid',
        in_channels=192,
        out_channels={{_base_.width}},
        strides=[4, 8, 16, 32, 64],
    ),
)
