# ViT-Adapter over a frozen ViT, without injectors, as DINOv3's authors adapt theirs: the ViT keeps no
# graph. Attention is global, as these weights learned it, so that class and register tokens stay.
# `vit` as in vit_frozen.py.
vit = 'dinov3_s'

_backbone = dict(
    type='mmhybrid.ViTAdapter',
    arch='s',
    windows=0,
    vit_features='stages',
    injectors=False,
    freeze='vit',
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    vit=dict(arch='dinov3_s', class_token=True),
    init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
)
