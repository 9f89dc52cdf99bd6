# UPerNet with ViT-CoMer-S on your own images, each with a mask of class numbers: the ViT keeps its
# DINOv2 weights, and LoRA, the adapter and the head learn. The checkpoints hold what is learned.
#
#   python tools/train.py configs/upernet_vitcomer_s_lora_custom.py \
#       --cfg-options data_root=/data/street classes=road,sky,tree weights=dinov2_vits14
#
# Folder and options are those of upernet_vitcomer_t_custom.py; docs/training.md says more of LoRA,
# which needs `pip install mmhybrid[lora]`.
_base_ = ['./_base_/models/upernet.py', './_base_/custom_semantic.py']

model = dict(
    backbone=dict(
        type='mmhybrid.ViTCoMer',
        arch='s_seg',
        vit=dict(pretrain_size=592),
        lora=dict(r=8, targets=('qkv', 'proj')),
    ),
    decode_head=dict(in_channels=[384] * 4),
    auxiliary_head=dict(in_channels=384),
)
# All blocks keep what they know: none has to learn more slowly than another.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
