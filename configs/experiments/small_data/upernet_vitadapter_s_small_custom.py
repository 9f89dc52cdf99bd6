# ViT-Adapter-S around the same ViT: see upernet_vitcomer_s_small_custom.py.
_base_ = './upernet_vitcomer_s_small_custom.py'

model = dict(backbone=dict(type='mmhybrid.ViTAdapter', arch='s_seg'))
