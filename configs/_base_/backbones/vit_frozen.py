# Plain ViT, frozen, with the norm after its last block, for a config that takes any: `vit` names its
# architecture, or the weights tell it, and the widths behind it follow; docs/dinov3.md.
vit = 'dinov3_s'

_backbone = dict(
    type='mmhybrid.ViT',
    arch='dinov3_s',
    final_norm=True,
    freeze='vit',
    init_cfg=dict(type='Pretrained', checkpoint='dinov3_vits16'),
)
# A map after each quarter of its blocks.
_backbone_of_4 = dict(_backbone, out_indices=[2, 5, 8, 11])
