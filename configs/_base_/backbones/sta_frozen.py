# STA over a frozen ViT, with the widths of STA-L over any. `vit` as in vit_frozen.py.
vit = 'dinov3_s'

_backbone = dict(
    type='mmhybrid.STA',
    arch='l',
    freeze='vit',
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    vit=dict(arch='dinov3_s'),
    init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
)
_backbone_from_4 = dict(_backbone, out_indices=[0, 1, 2, 3])  # with a map of stride 4
