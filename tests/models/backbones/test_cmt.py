import re

import pytest
import torch

from mmhybrid.checkpoints import CheckpointError, load_weights
from mmhybrid.models.backbones import CMT
from mmhybrid.models.backbones.cmt import scale_arch
from tests.models.backbones.contract import BackboneContract
from tests.models.drawn import draw_parameters, names_without_gradient

TINY = dict(
    embed_dims=(8, 16, 24, 32),
    stem_channels=8,
    depths=(1, 1, 2, 1),
    num_heads=(1, 2, 3, 4),
    sr_ratios=(8, 4, 2, 1),
    pretrain_size=64,
)
SINGLE = dict(
    embed_dims=(32,), stem_channels=8, depths=(4,), num_heads=(2,), sr_ratios=(1,), patch_sizes=(8,)
)


class TestCMT(BackboneContract):
    backbone = CMT
    arguments = dict(arch=TINY)
    channels = (8, 16, 24, 32)
    strides = (4, 8, 16, 32)
    stages = 4
    without_gradient = r'(\.(k|reduce\.0|dw_norm|project)|head\.conv)\.bias$'


class TestPatchStemAllLN(TestCMT):
    arguments = dict(arch=TINY, stem='patch', norm_cfg=dict(type='LN2d'))
    without_gradient = r'\.k\.bias$'


class TestSingleStage(TestCMT):
    arguments = dict(arch=SINGLE)
    channels = (32,)
    strides = (16,)
    stages = 1


# From the original code, with its head and the bias of its training size.
@pytest.mark.parametrize(
    ('arch', 'total'),
    [('ti', 9_492_426), ('xs', 15_247_208), ('s', 26_256_160), ('b', 45_715_076)],
)
def test_parameter_counts_are_the_originals(arch, total):
    with torch.device('meta'):
        model = CMT(arch, num_classes=1000)
    assert sum(p.numel() for p in model.parameters()) == total


@pytest.mark.parametrize(
    'arguments',
    [
        dict(lpu=False),
        dict(ffn_shortcut=False),
        dict(stem='patch'),
        dict(norm_cfg=dict(type='LN2d')),
        dict(arch=SINGLE),
        dict(arch=SINGLE, stem='patch'),
        dict(qkv_bias=False, qk_scale=0.1),
        dict(arch={**TINY, 'embed_dims': (8, 16, 24, 32), 'qk_ratio': 2}),
        dict(mlp_ratio=(2, 2.5, 3, 3.6)),
        dict(bias_resize='flat'),
        dict(num_classes=5, out_indices=(3,)),
        dict(norm_cfg=dict(type='GN', num_groups=4), mlp_ratio=4),
    ],
)
def test_options_train(arguments):
    model = draw_parameters(CMT(**{'arch': TINY, **arguments}))
    without = names_without_gradient(model, torch.randn(2, 3, 64, 96))
    assert not [name for name in without if not re.search(TestCMT.without_gradient, name)]


def test_stages_that_do_not_come_out_are_neither_run_nor_trained():
    model = CMT(TINY, out_indices=(0, 2)).train()
    sum(out.mean() for out in model(torch.randn(2, 3, 64, 64))).backward()
    for name, p in model.named_parameters():
        assert (p.grad is None) == name.startswith('stages.3.') == (not p.requires_grad)
    model = CMT(TINY, out_indices=(0,), num_classes=5).train()
    assert model(torch.randn(2, 3, 64, 64))[-1].shape == (2, 5)
    assert all(p.requires_grad for p in model.parameters())


def test_published_settings():
    for arch, size in (('ti', 160), ('xs', 192), ('s', 224), ('b', 256)):
        with torch.device('meta'):
            model = CMT(arch)
        assert model.stages[0].bias.query_grid == (size // 4, size // 4)
        assert {stage.bias.key_grid for stage in model.stages} == {(size // 32, size // 32)}
        assert model.out_strides == (4, 8, 16, 32)


def test_compound_scaling():
    base = CMT.arch_settings['s']
    assert scale_arch(0) == base
    large, small = scale_arch(1), scale_arch(-1)
    assert large['depths'] == (4, 4, 19, 4) and small['depths'] == (2, 2, 13, 2)
    assert large['embed_dims'] == (84, 168, 336, 672) and large['pretrain_size'] == 256
    assert base == scale_arch(0.001)
    with torch.device('meta'):
        counts = [sum(p.numel() for p in CMT(a).parameters()) for a in (small, base, large)]
        CMT(scale_arch(2.5)), CMT(scale_arch(-3, 'ti'))
    assert counts == sorted(counts)


def test_one_thread_gives_what_two_give():
    model = CMT(TINY).eval()
    image, threads = torch.randn(1, 3, 64, 64), torch.get_num_threads()
    with torch.no_grad():
        torch.set_num_threads(1)
        one = model(image)
        torch.set_num_threads(2)
        two = model(image)
        torch.set_num_threads(threads)
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(pretrain_size=80), r'pretrain_size=80 is no multiple of 32.*; try 64'),
        (dict(stem='convs'), r"stem='convs': expected 'conv' or 'patch'"),
        (dict(mlp_ratio=(4, 4)), r'mlp_ratio has 2 entries for 4 stages'),
        (dict(arch={**TINY, 'num_heads': (1, 2, 4)}), r'num_heads has 3 entries for 4 stages'),
        (dict(arch={**TINY, 'num_heads': (1, 2, 5, 4)}), r'num_heads=5 does not divide 24'),
        (dict(bias_resize='nearest'), r"bias_resize='nearest': expected"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        CMT(**{'arch': TINY, **arguments})


def test_layer_depths_go_from_stem_to_head():
    model = CMT(TINY, num_classes=5)
    for name, depth in {
        'stem.0.weight': 0,
        'stages.0.patch_embed.0.weight': 0,
        'stages.0.bias.table': 1,
        'stages.2.patch_embed.0.weight': 3,
        'stages.2.blocks.1.norm1.weight': 4,
        'stages.3.blocks.0.lpu.weight': 5,
        'head.fc.weight': 6,
    }.items():
        assert model.get_layer_depth(f'backbone.{name}', 'backbone.') == (depth, 7)


def test_a_head_of_other_classes_begins_anew():
    torch.manual_seed(0)
    trained, model = CMT(TINY, num_classes=5), CMT(TINY, num_classes=7)
    own = model.head.fc.weight.clone()
    checkpoint = trained.state_dict()
    with pytest.raises(CheckpointError, match=r'head\.fc\.weight'):
        load_weights(model, checkpoint, parts=CMT.pretrained_parts)
    with pytest.raises(ValueError, match=r"fresh='haed' matches no name"):
        load_weights(model, checkpoint, parts=CMT.pretrained_parts, fresh='haed')
    report = load_weights(model, checkpoint, parts=CMT.pretrained_parts, fresh=r'head\.fc\.')
    assert report.untouched == ('head.fc.weight', 'head.fc.bias')
    assert report.filled == report.parameters - 7 * 1281
    torch.testing.assert_close(model.head.fc.weight, own)
    torch.testing.assert_close(model.head.conv.weight, trained.head.conv.weight)
    headless = CMT(TINY)
    report = load_weights(headless, checkpoint, parts=CMT.pretrained_parts)
    assert set(report.dropped.values()) == {'num_classes=0'}
