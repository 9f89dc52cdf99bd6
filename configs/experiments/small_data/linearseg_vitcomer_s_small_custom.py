# A linear head on the four maps of ViT-CoMer-S over DINOv2's ViT-S, in the study of small data, whose rows freeze
# the ViT and lower the backbone's rate; README.md.
_base_ = ['../../_base_/models/linear_small.py', '../../_base_/custom_semantic.py']

_vit = dict(arch='dinov2_s', patch_size=16, pretrain_size=592, class_token=True)
model = dict(backbone=dict(type='mmhybrid.ViTCoMer', arch='s_seg', vit=_vit))
