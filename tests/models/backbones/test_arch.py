"""Settings that do not go together are named as the user gave them."""

import inspect
import re
from dataclasses import FrozenInstanceError, dataclass
from typing import Literal

import pytest

from mmhybrid.models.backbones import BACKBONES, CMT, SPACH, STA, CvT, ViT, ViTAdapter, ViTCoMer
from mmhybrid.models.backbones.arch import option

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
        (ViTAdapter, dict(arch=TINY_ADAPTER, vit=dict(final_norm=True)), 'ViTAdapter sets it'),
        (ViTCoMer, dict(arch=TINY_ADAPTER, vit=dict(out_indices=[1])), 'ViTCoMer sets it'),
        (
            ViTAdapter,
            dict(arch=TINY_ADAPTER, lora=dict(r=2), vit=dict(lora=dict(r=4))),
            "lora={'r': 4} in vit=.*ViTAdapter sets it",
        ),
        (STA, dict(arch='s', out_dims='a'), "out_dims='a': expected a whole number above 0"),
        (STA, dict(arch='s', out_dims=-8), 'out_dims=-8: expected a whole number above 0'),
        (STA, dict(arch='s', interaction_indexes=(1, 2, 3.5)), '=3.5: expected a whole number$'),
        (CMT, dict(arch='ti', head_dims=4.5), 'head_dims=4.5: expected a whole number above 0'),
        (CMT, dict(arch='ti', head_dims=True), 'head_dims=True: expected a whole number above 0'),
        (CMT, dict(arch='ti', patch_sizes=(2, 2, 2, True)), 'patch_sizes=True: expected a whole'),
        (CMT, dict(arch='ti', mlp_ratio=(4, 4, 4, '4')), "mlp_ratio='4': expected a finite"),
        (ViTCoMer, dict(arch=TINY_ADAPTER, pyramid_scale=float('nan')), '=nan: expected a finite'),
        (
            ViTCoMer,
            dict(arch=TINY_ADAPTER, pyramid_scale=float('-inf')),
            '=-inf: expected a finite',
        ),
        (ViTCoMer, dict(arch=TINY_ADAPTER, pyramid_scale=True), 'pyramid_scale=True: expected'),
        (ViT, dict(arch=TINY_VIT, frozen_stages=True), 'frozen_stages=True: this ViT has 4 blocks'),
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


@pytest.mark.parametrize('backbone', BACKBONES)
def test_options_stand_in_the_signature_and_the_documentation(backbone):
    options = backbone.arch_type.options()
    for made in (backbone, backbone.__init__):
        parameters = dict(inspect.signature(made).parameters)
        parameters.pop('self', None)
        assert next(iter(parameters)) == 'arch'
        assert {*options, 'in_channels', 'with_cp', 'init_cfg'} <= set(parameters)
        for name, it in options.items():
            assert parameters[name].default is None
            assert parameters[name].annotation == it.type | None
        assert all(
            one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) for one in parameters.values()
        )
    entries = re.findall(r'^    (\w+): ', backbone.__doc__.split('Args:')[1].split('\n\n')[0], re.M)
    assert entries == list(parameters)
    for name in options:
        assert f'    {name}: * ' in backbone.__doc__


def test_a_subclass_documents_its_own():
    class Small(CMT):
        """A small CMT.

        Args:
            arch: ``'ti'``.
            size, shape: of something
                small.
            lpu, head_drop: ours.
        """

        def __init__(self, arch='ti', *, size=1, shape=2, **options):
            super().__init__(arch, **options)

    assert '\n    size, shape: of something small.\n' in Small.__doc__
    assert '\n    lpu, head_drop: ours.\n' in Small.__doc__
    for name in ('ffn_shortcut', 'in_channels', 'arch'):
        assert Small.__doc__.count(f'\n    {name}: ') == 1
    assert 'lpu: *' not in Small.__doc__
    assert 'size' in inspect.signature(Small).parameters
    assert 'size' not in inspect.signature(CMT).parameters


def test_a_record_with_one_more_option():
    @dataclass(frozen=True, kw_only=True)
    class Arch(CMT.arch_type):
        extra: Literal['a', 'b'] = option('more', 'a')

    class Own(CMT):
        arch_type = Arch

    tiny = dict(CMT.arch_settings['ti'], depths=(1, 1, 1, 1))
    assert Own(tiny, extra='b').arch.extra == 'b'
    assert Own(tiny | dict(extra='b')).arch.extra == 'b'
    assert Own(tiny).arch.extra == 'a'
    with pytest.raises(ValueError, match="extra='c': expected 'a' or 'b'"):
        Own(tiny, extra='c')
    with pytest.raises(TypeError, match="Own has no argument 'extr'; did you mean 'extra'"):
        Own(tiny, extr='a')
    with pytest.raises(TypeError, match="CMT has no argument 'extra'"):
        CMT(tiny, extra='a')


def test_nothing_of_a_record_is_the_callers():
    norm_cfg, stages = dict(type='LN', eps=1e-3), [[['conv', 1]], [['attn', 1]]]
    arch = dict(embed_dims=8, num_heads=2, stages=stages, norm_cfg=norm_cfg)
    model = SPACH(arch)
    stages[1][0][0], norm_cfg['eps'] = 'mlp', 1.0
    assert model.arch.stages == [[['conv', 1]], [['attn', 1]]]
    assert model.arch.norm_cfg == dict(type='LN', eps=1e-3)
    first, second = ViT.resolve_arch('t'), ViT.resolve_arch('t')
    first.norm_cfg['eps'] = 1.0
    assert second.norm_cfg == ViT.resolve_arch('s').norm_cfg == dict(type='LN', eps=1e-6)
    with pytest.raises(FrozenInstanceError):
        model.arch.num_heads = 4
