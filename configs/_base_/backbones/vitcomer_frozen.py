# ViT-CoMer over a frozen ViT, without CTI to it: the ViT keeps no graph. The outputs begin as its own
# maps, normalised; docs/choose.md measures both. Attention is global, as these weights learned it, so
# that class and register tokens stay. `vit` as in vit_frozen.py.
vit = 'dinov3_s'

_backbone = dict(
    type='mmhybrid.ViTCoMer',
    arch='s',
    windows=0,
    vit_features='stages',
    final_norm=True,
    pyramid_scale=0.0,
    cti_to_vit=False,
    freeze='vit',
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    vit=dict(arch='dinov3_s', class_token=True),
    init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
)
_backbone_from_8 = dict(_backbone, out_indices=[1, 2, 3])  # without the map of stride 4
