# UPerNet with CMT-Ti on your own images, each with a mask of class numbers:
#
#   python tools/train.py configs/upernet_cmt_ti_custom.py \
#       --cfg-options data_root=/data/street classes=road,sky,tree weights=cmt_tiny
#
# Folder and options are those of upernet_vitcomer_t_custom.py; see docs/data.md.
_base_ = ['./_base_/models/upernet.py', './_base_/custom_semantic.py']

model = dict(
    backbone=dict(type='mmhybrid.CMT', arch='ti', drop_path_rate=0.1),
    decode_head=dict(in_channels=[46, 92, 184, 368]),
    auxiliary_head=dict(in_channels=184),
)
