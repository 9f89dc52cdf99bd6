"""Settings that do not go together are named as the user gave them."""

import pytest

from mmhybrid.models.backbones import CMT, CvT, ViT, ViTAdapter, ViTCoMer

TINY_VIT = dict(embed_dims=32, depth=4, num_heads=2)
TINY_ADAPTER = TINY_VIT | dict(deform_heads=2, stem_channels=8, windows=0)
TINY_CVT = dict(embed_dims=(8, 16, 24), depths=(1, 1, 1), num_heads=(1, 1, 1))


@pytest.mark.parametrize(
    ('backbone', 'arguments', 'message'),
    [
        (CMT, dict(arch='ti', out_indices=9), r'out_indices=\(9,\)'),
        (CMT, dict(arch=dict(CMT.arch_settings['ti'], sr_ratios=(8, 4))), '2 entries for 4'),
        (ViT, dict(arch=TINY_VIT, pretrain_size=14), 'smaller than patch_size=16'),
        (ViT, dict(arch=TINY_VIT | dict(num_heads=0)), 'num_heads=0 does not divide'),
        (ViT, dict(arch=TINY_VIT | dict(embed_dims=12), position='rope'), 'in four parts: 6'),
        (ViTAdapter, dict(arch=TINY_ADAPTER | dict(windows=(3, 3, 0))), 'do not divide 4 blocks'),
        (ViTAdapter, dict(arch=TINY_ADAPTER, ffn_ratio=0.02), 'no channel'),
        (ViTAdapter, dict(arch=TINY_ADAPTER, vit=dict(final_norm=True)), 'not its maps'),
        (ViTCoMer, dict(arch=TINY_ADAPTER, vit=dict(out_indices=[1])), 'not its maps'),
        (ViTCoMer, dict(arch=TINY_ADAPTER, interaction_indexes=[[0, 3], []]), 'an empty stage'),
        (ViTCoMer, dict(arch=TINY_ADAPTER, windows=()), 'windows has 0 entries for 4 blocks'),
    ],
)
def test_message(backbone, arguments, message):
    with pytest.raises(ValueError, match=message):
        backbone(**arguments)


def test_numbers_from_a_command_line():
    assert CMT('ti', out_indices=2).out_indices == (2,)
    tokens = [stage.cls_token for stage in CvT(TINY_CVT, class_token=1).stages]
    assert [token is not None for token in tokens] == [False, False, True]
