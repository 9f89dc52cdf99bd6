# Mask R-CNN with ConvNeXt-Pico of MMPretrain, of the size of ViT-CoMer-T, narrow and from random
# weights, on your own images: see maskrcnn_vitcomer_t_scratch_custom.py.
_base_ = ['./_base_/models/mask_rcnn_small.py', './_base_/custom_instance_scratch.py']
custom_imports = dict(imports=['mmpretrain.models'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        type='mmpretrain.ConvNeXt',
        arch='pico',
        out_indices=[0, 1, 2, 3],
        drop_path_rate=0.1,
        layer_scale_init_value=1.0,
        gap_before_final_norm=False,
    ),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
