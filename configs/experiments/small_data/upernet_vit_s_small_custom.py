# The same ViT alone, and a simple pyramid as wide as the adapters' maps: see
# upernet_vitcomer_s_small_custom.py.
_base_ = './upernet_vitcomer_s_small_custom.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmhybrid.ViT',
        arch='dinov2_s',
        patch_size=16,
        pretrain_size=592,
        final_norm=True,
    ),
    neck=dict(type='mmhybrid.SimplePyramid', in_channels=384, out_channels=384),
)
