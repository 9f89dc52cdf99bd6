import re

import pytest
import torch

from mmhybrid.models.backbones import ViTCoMer
from tests.models.backbones.contract import BackboneContract
from tests.models.drawn import draw_parameters, names_without_gradient

TINY = dict(
    embed_dims=32, depth=4, num_heads=2, deform_heads=2, num_points=2, stem_channels=8, windows=2
)
VIT = dict(pretrain_size=64)


class TestViTCoMer(BackboneContract):
    backbone = ViTCoMer
    arguments = dict(arch=TINY, vit=VIT)
    channels = (32, 32, 32, 32)
    strides = (4, 8, 16, 32)
    stages = 4
    without_gradient = r'^(cnn\.projections\.0|upsample|stages\.\d\.mrfp\.conv[35]x[35]\.\d)\.bias$'


class TestSegmentationTree(TestViTCoMer):
    arguments = dict(arch={**TINY, 'windows': 0, 'mrfp_ratio': 1.5}, vit=VIT, vit_features='stages')


class TestWithoutInteraction(TestViTCoMer):
    arguments = dict(arch=TINY, vit=VIT, cnn_interaction=False, vit_features='none')


class TestGroupNorm(TestViTCoMer):
    arguments = dict(arch=TINY, vit=VIT, norm_cfg=dict(type='GN', num_groups=4))
    without_gradient = BackboneContract.without_gradient


class TestWithPrefixTokens(TestViTCoMer):
    arguments = dict(
        arch={**TINY, 'windows': 0}, vit=dict(**VIT, class_token=True, num_registers=2)
    )


# From the original code, with the position embedding's row of the class token it does not have.
@pytest.mark.parametrize(
    ('arch', 'total', 'width'),
    [
        ('t', 8_739_680, 192),
        ('s', 30_007_136, 384),
        ('b', 108_150_656, 768),
        ('l', 341_893_184, 1024),
        ('t_seg', 10_619_360, 192),
        ('s_seg', 31_280_480, 384),
        ('b_seg', 110_603_648, 768),
    ],
)
def test_parameter_counts_are_the_originals(arch, total, width):
    with torch.device('meta'):
        model = ViTCoMer(arch)
    assert sum(p.numel() for p in model.parameters()) == total - width


@pytest.mark.parametrize(
    'arguments',
    [
        dict(cti_to_vit=False),
        dict(mrfp_ratio=0),
        dict(cti_to_cnn=False),
        dict(cti_to_vit=[True, False, True, False], cti_to_cnn=[False, True, False, True]),
        dict(extra_cti=0),
        dict(extra_cti=2, ffn_ratio=0.5, num_points=3),
        dict(cnn_ffn=False),
        dict(vit_features='none', extra_cti=0),
        dict(interaction_indexes=[(0, 0), (1, 3)]),
        dict(interaction_indexes=[[0, 1], [2, 3]], cnn_interaction=[True, False]),
        dict(norm_cfg=dict(type='GN', num_groups=4)),
        dict(norm_cfg=dict(type='BN', requires_grad=True)),
        dict(out_indices=(1, 3)),
    ],
)
def test_options_train(arguments):
    model = draw_parameters(ViTCoMer(TINY, vit=VIT, **arguments))
    without = names_without_gradient(model, torch.randn(2, 3, 64, 64))
    # The last bias of all goes to output norms alone where the finest map does not come out.
    expected = rf'{TestViTCoMer.without_gradient}|extra\.3\.interaction\.ffn\.fc2\.bias$'
    assert not [name for name in without if not re.search(expected, name)]


def test_a_frozen_vit_gets_no_graph_before_something_is_injected():
    """Only the stages from the first CTI to the ViT on need a graph through its blocks."""
    model = ViTCoMer(TINY, vit=VIT, freeze='vit', cti_to_vit=[False, False, True, True]).train()
    needs_graph = []
    for block in model.vit.blocks:
        block.register_forward_hook(lambda _, __, out: needs_graph.append(out.requires_grad))
    outs = model(torch.randn(2, 3, 64, 64))
    assert needs_graph == [False, False, True, True]
    sum(out.mean() for out in outs).backward()
    assert all(p.grad is None for p in model.vit.parameters())
    trained = [p for name, p in model.named_parameters() if not name.startswith('vit.')]
    assert all(p.grad is not None for p in trained)


def test_a_frozen_vit_stays_in_evaluation_mode():
    model = ViTCoMer(TINY, vit=VIT, freeze='vit', drop_path_rate=0.5).train()
    assert not any(module.training for module in model.vit.modules())


def test_the_vit_begins_undisturbed():
    """CTI to the ViT begins at zero: its patch tokens are those of the ViT alone."""
    model = ViTCoMer(TINY, vit=VIT).eval()
    seen = []
    model.vit.blocks[-1].register_forward_hook(lambda _, __, out: seen.append(out))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        model(image)
        model.vit(image)
    torch.testing.assert_close(seen[0], seen[1])


def test_padding_is_the_pipelines_padding():
    """An image that is padded inside gives what it gives padded before."""
    model = ViTCoMer(TINY, vit=VIT).eval()
    image = torch.randn(1, 3, 50, 70)
    with torch.no_grad():
        inside = model(image)
        before = model(torch.nn.functional.pad(image, (0, 26, 0, 14)))
    for one, other in zip(inside, before, strict=True):
        torch.testing.assert_close(one, other[:, :, : one.shape[2], : one.shape[3]])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(interaction_indexes=[(0, 1), (3, 3)]), r'do not cover the 4 blocks'),
        (dict(interaction_indexes=[(0, 1)]), r'do not cover the 4 blocks'),
        (dict(cti_to_vit=[True]), r'cti_to_vit has 1 entries for 4 stages'),
        (dict(mrfp_ratio=0.03), r'mrfp_ratio=0.03 gives MRFP 0 hidden channels'),
        (dict(ffn_ratio=0), r'ffn_ratio=0 leaves .* set cnn_ffn=False'),
        (dict(vit_features='all'), r"vit_features='all': expected"),
        (dict(vit_features='stages', interaction_indexes=[(0, 3)]), r'there are 1 stages'),
        (dict(vit_features='none', extra_cti=0, cti_to_cnn=False), r'would not reach any output'),
        (
            dict(vit_features='stages', extra_cti=0, cti_to_cnn=False, out_indices=(0, 1)),
            r'would not reach any output',
        ),
        (dict(vit=dict(patch_size=14)), r'patch size 16 to its stride 16, got 14'),
        (dict(vit=dict(arch='s')), r'12 blocks of width 384, but arch says 4 of width 32'),
        (dict(deform_heads=5), r'5 heads of deformable attention do not divide its width 32'),
        (dict(freeze='cnn'), r"freeze='cnn': expected None or 'vit'"),
        (dict(norm_cfg=dict(type='GN')), r'GN needs num_groups'),
        (dict(deform_backend='cuda'), r"unknown backend 'cuda' of deformable attention"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        ViTCoMer(**{'arch': TINY, **arguments})(torch.randn(2, 3, 32, 32))


def test_layer_depths_are_the_vits_and_the_adapter_is_last():
    model = ViTCoMer(TINY, vit=VIT)
    assert model.get_layer_depth('backbone.vit.pos_embed', 'backbone.') == (0, 6)
    assert model.get_layer_depth('backbone.vit.blocks.0.norm1.bias', 'backbone.') == (1, 6)
    assert model.get_layer_depth('backbone.cnn.stem.0.0.weight', 'backbone.') == (5, 6)
