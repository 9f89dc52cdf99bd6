# ViT-CoMer-T with AugReg weights (ImageNet-22K, then 1K). There are no published figures; the
# recipe is that of upernet_vitcomer_t.py, and normal pixels as in upernet_vitadapter_t_augreg.py.
_base_ = './upernet_vitcomer_t.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='augreg_vit_tiny_patch16_224'))
)
