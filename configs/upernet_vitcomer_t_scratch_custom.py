# UPerNet with ViT-CoMer-T, narrow and from random weights, on your own images and masks:
#
#   python tools/train.py configs/upernet_vitcomer_t_scratch_custom.py \
#       --cfg-options data_root=/data/street classes=road,sky,tree
#
# The same with other backbones: upernet_*_scratch_custom.py. They need no download and train on a
# CPU; with weights, upernet_vitcomer_t_custom.py gets further. See docs/data.md.
_base_ = ['./_base_/models/upernet_small.py', './_base_/custom_semantic_scratch.py']

model = dict(
    backbone=dict(type='mmhybrid.ViTCoMer', arch='t_seg', drop_path_rate=0.1),
    decode_head=dict(in_channels=[192] * 4),
    auxiliary_head=dict(in_channels=192),
)
