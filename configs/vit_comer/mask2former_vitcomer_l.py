# Mask2Former, ViT-CoMer-L with BEiTv2 weights, ADE20K at 896 pixels: 61.7 mIoU, single scale, and
# 62.1, multi-scale (arXiv 2403.07392, Table 7). The authors publish no config of it: the recipe is
# that of ViT-Adapter-L, which they compare with, and the width of MRFP that of their COCO-Stuff
# model, with which it begins (they print 604 M parameters, one of this width has 634):
#
#   torchrun ... tools/train.py configs/vit_comer/mask2former_vitcomer_l.py --launcher pytorch --cfg-options \
#       load_from=work_dirs/mask2former_vitcomer_l_cocostuff/iter_80000.pth
_base_ = '../vit_adapter/mask2former_vitadapter_l.py'

model = dict(
    backbone=dict(
        type='mmhybrid.ViTCoMer', arch='l', windows=0, vit_features='stages', mrfp_ratio=6.0
    )
)
