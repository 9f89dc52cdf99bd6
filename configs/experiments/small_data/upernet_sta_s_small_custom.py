# STA around the same ViT, as wide as its maps: see upernet_vitcomer_s_small_custom.py.
_base_ = './upernet_vitcomer_s_small_custom.py'

model = dict(
    backbone=dict(
        type='mmhybrid.STA',
        arch=dict(_delete_=True, vit='dinov2_s', stem_channels=32),
        out_indices=[0, 1, 2, 3],
    ),
)
