# UPerNet with ViT-CoMer-T on your own images, each with a mask of class numbers:
#
#   python tools/train.py configs/upernet_vitcomer_t_custom.py \
#       --cfg-options data_root=/data/street classes=road,sky,tree weights=deit_tiny_patch16_224
#
# docs/data.md shows the folder; its options head _base_/datasets/custom_semantic.py, those of the
# training _base_/schedules/custom.py. mIoU is printed during and after the training. The config that
# is saved in the work dir holds the class names and paths, and serves tools/test.py and
# tools/infer.py.
_base_ = ['./_base_/models/upernet.py', './_base_/custom_semantic.py']

model = dict(
    backbone=dict(type='mmhybrid.ViTCoMer', arch='t_seg', drop_path_rate=0.1),
    decode_head=dict(in_channels=[192] * 4),
    auxiliary_head=dict(in_channels=192),
)
