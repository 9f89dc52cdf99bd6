# ViT_C-18GF, COCO 1x.
_base_ = './maskrcnn_vitc_4gf.py'

model = dict(backbone=dict(arch='c_18gf', drop_path_rate=0.3), neck=dict(in_channels=768))
