# Mask2Former, ViT-CoMer-S over a frozen ViT-S with DINOv3 weights, ADE20K, 160k steps. There are no published
# figures of this size; the recipe is that of Mask2Former itself, with its full rate for the adapter,
# which begins at random.
_base_ = [
    '../_base_/backbones/vitcomer_frozen.py',
    '../_base_/models/mask2former.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/ade20k_mask2former_160k.py',
    '../_base_/mmseg_runtime.py',
]

model = dict(backbone={{_base_._backbone}}, decode_head=dict(in_channels=[384] * 4))
optim_wrapper = dict(paramwise_cfg=dict(backbone_lr_mult=1.0))
