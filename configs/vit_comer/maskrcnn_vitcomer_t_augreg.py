# ViT-CoMer-T with AugReg weights (ImageNet-22K, then 1K), which want pixels from -1 to 1. There are
# no published figures; the recipe is that of maskrcnn_vitcomer_t.py.
_base_ = './maskrcnn_vitcomer_t.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='augreg_vit_tiny_patch16_224')),
)
