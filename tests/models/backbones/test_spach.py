import re

import pytest
import torch

from mmhybrid.models.backbones import SPACH
from tests.models.backbones.contract import BackboneContract
from tests.models.drawn import draw_parameters, names_without_gradient


def tiny(*stages, **settings):
    return dict(embed_dims=8, num_heads=2, stages=stages, **settings)


CONV = tiny([('conv', 1)], [('conv', 2)], [('conv', 2)], [('conv', 1)])
ATTN = tiny([('conv', 1)], [('attn', 1)], [('attn', 2)], [('attn', 1)])
HYBRID = tiny([('conv', 1)], [('conv', 1), ('attn', 1)], [('attn', 2)], [('attn', 1)])
MLP = tiny([('conv', 1)], [('mlp', 1)], [('mlp', 2)], [('attn', 1)], image_size=(64, 96))


class TestConv(BackboneContract):
    backbone = SPACH
    arguments = dict(arch=CONV)
    channels = (8, 16, 32, 64)
    strides = (4, 8, 16, 32)
    stages = 4


class TestAttention(TestConv):
    arguments = dict(arch=ATTN)


class TestHybridWithDeepStem(TestConv):
    arguments = dict(arch=HYBRID, stem='conv')


class TestSingleStage(BackboneContract):
    backbone = SPACH
    arguments = dict(arch=tiny([('attn', 3)], patch_size=16))
    channels = (8,)
    strides = (16,)
    stages = 1


class TestMLP(TestConv):
    """The contract at the one size of an architecture with MLP mixing."""

    arguments = dict(arch=MLP)

    def image(self, *size, n=1, channels=3):
        return super().image(*(size if min(size) < 32 else (64, 96)), n=n, channels=channels)

    @pytest.mark.parametrize('size', [(64, 96)])
    @pytest.mark.parametrize('n', [1, 2])
    def test_shapes(self, size, n):
        super().test_shapes(size, n)


def test_mlp_mixing_names_the_size_it_is_tied_to():
    model = SPACH(MLP).eval()
    for h, w in ((96, 64), (64, 64), (224, 224)):
        message = rf'built for images of 64x96 pixels, got {h}x{w}; crop or resize the images'
        with pytest.raises(ValueError, match=message):
            model(torch.zeros(1, 3, h, w))
    with torch.no_grad():  # of as many tokens after padding
        assert model(torch.zeros(1, 3, 61, 94))[-1].shape[2:] == (2, 3)
    assert SPACH(MLP, image_size=48)(torch.zeros(1, 3, 48, 48))[0].shape[2:] == (12, 12)
    assert SPACH('ms_xxs_mlp').image_size == (224, 224)


def test_other_mixings_take_any_size():
    for arch in (CONV, ATTN, HYBRID):
        model = SPACH({**arch, 'image_size': 64}).eval()
        assert not model.tied_to_size
        with torch.no_grad():
            model(torch.zeros(1, 3, 72, 40))


# Of microsoft/SPACH, with its classification head.
COUNTS = {
    'ms_xxs_conv': 5_085_224,
    'ms_xxs_attn': 2_372_744,
    'ms_xxs_mlp': 6_562_446,
    'ms_xs_conv': 17_302_120,
    'ms_xs_attn': 14_479_080,
    'ms_xs_mlp': 20_260_283,
    'ms_xs_hybrid': 27_956_584,
    'ms_s_conv': 43_576_168,
    'ms_s_attn': 39_537_544,
    'ms_s_mlp': 46_542_011,
    'ms_s_hybrid': 63_028_584,
    'ms_splus_hybrid': 63_138_728,
    'xxs_conv': 7_828_840,
    'xxs_attn': 3_931_048,
    'xxs_mlp': 8_307_184,
    'xs_conv': 14_975_848,
    'xs_attn': 14_938_984,
    'xs_mlp': 15_932_536,
    's_conv': 38_854_120,
    's_attn': 32_507_368,
    's_mlp': 39_820_024,
}


@pytest.mark.parametrize(('arch', 'total'), COUNTS.items())
def test_parameter_counts_are_the_originals(arch, total):
    with torch.device('meta'):
        model = SPACH(arch, num_classes=1000)
    assert sum(p.numel() for p in model.parameters()) == total


def test_every_published_architecture_is_counted():
    assert set(COUNTS) == set(SPACH.arch_settings)


def test_logits_come_after_the_maps():
    model = SPACH(HYBRID, num_classes=5).train()
    *maps, logits = model(torch.randn(2, 3, 64, 64))
    assert [m.shape[1] for m in maps] == [8, 16, 32, 64] and logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.get_layer_depth('head.weight') == (7, 8) and 'norm.weight' in model.state_dict()


@pytest.mark.parametrize(
    'arguments',
    [
        dict(arch={**HYBRID, 'layer_scale': None}),
        dict(conv_bypass=False, arch=tiny([('attn', 1)], [('attn', 2)])),
        dict(arch=tiny([('conv', 1)], [('mlp', 3)], image_size=64), shared_mixing=True),
        dict(qkv_bias=False, channel_ratio=3.5),
        dict(stem='conv', stem_norm_cfg=dict(type='GN', num_groups=4), patch_size=8),
        dict(out_indices=(1, 3)),
    ],
)
def test_options_train(arguments):
    model = draw_parameters(SPACH(**{'arch': HYBRID, **arguments}))
    without = names_without_gradient(model, torch.randn(2, 3, 64, 64))
    assert not [name for name in without if not re.search(TestConv.without_gradient, name)]


def test_a_shared_mixing_is_one_module():
    stages = [('mlp', 1)], [('mlp', 3)]
    model = SPACH(tiny(*stages, image_size=32), shared_mixing=True)
    one, *others = (block.mixing for block in model.stages[1].blocks)
    assert all(other is one for other in others)


def test_drop_path_grows_except_in_a_single_stage():
    rates = [m.drop_path.rate for s in SPACH(CONV, drop_path_rate=0.5).stages for m in s.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    single = SPACH(tiny([('conv', 3)]), drop_path_rate=0.5)
    assert [block.drop_path.rate for block in single.stages[0].blocks] == [0.5] * 3


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(arch=tiny([('pass', 1)])), r"expected for each stage pairs .* \('conv', 'attn', 'm"),
        (dict(stem='deep'), r"stem='deep': expected 'patch' or 'conv'"),
        (dict(stem='conv', patch_size=7), r'patch_size=7: .* give an even number'),
        (dict(arch={**ATTN, 'num_heads': 3}), r'num_heads=3 does not divide embed_dims=8'),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        SPACH(**{'arch': CONV, **arguments})


def test_layer_depths():
    model = SPACH(CONV)
    assert model.get_layer_depth('backbone.stem.norm.weight', 'backbone.') == (0, 8)
    assert model.get_layer_depth('backbone.stages.0.blocks.0.conv.bias', 'backbone.') == (1, 8)
    assert model.get_layer_depth('backbone.stages.1.downsample.conv.weight', 'backbone.') == (2, 8)
    assert model.get_layer_depth('backbone.stages.3.blocks.0.conv.bias', 'backbone.') == (6, 8)
