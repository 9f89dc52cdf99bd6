# UPerNet with STA-L, the lightest adapter of a DINOv3 ViT, on your own images, each with a mask of
# class numbers:
#
#   python tools/train.py configs/upernet_sta_l_custom.py \
#       --cfg-options data_root=/data/street classes=road,sky,tree \
#       weights=vit_small_patch16_dinov3_qkvb.lvd1689m
#
# Folder and options are those of upernet_vitcomer_t_custom.py; see docs/data.md.
_base_ = ['./_base_/models/upernet.py', './_base_/custom_semantic.py']

model = dict(
    backbone=dict(type='mmhybrid.STA', arch='l', out_indices=[0, 1, 2, 3]),
    decode_head=dict(in_channels=[224] * 4),
    auxiliary_head=dict(in_channels=224),
)
