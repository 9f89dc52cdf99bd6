import re

import pytest
import torch

from mmhybrid.models.backbones import ViTAdapter
from tests.models.backbones.contract import BackboneContract
from tests.models.drawn import draw_parameters, names_without_gradient

TINY = dict(
    embed_dims=32, depth=4, num_heads=2, deform_heads=2, num_points=2, stem_channels=8, windows=2
)
VIT = dict(pretrain_size=64)


class TestViTAdapter(BackboneContract):
    backbone = ViTAdapter
    arguments = dict(arch=TINY, vit=VIT)
    channels = (32, 32, 32, 32)
    strides = (4, 8, 16, 32)
    stages = 4
    without_gradient = r'^(cnn\.projections\.0|upsample)\.bias$'


class TestSegmentationTree(TestViTAdapter):
    arguments = dict(arch={**TINY, 'windows': 0}, vit=VIT, vit_features='stages')


class TestWithPrefixTokens(TestViTAdapter):
    arguments = dict(
        arch={**TINY, 'windows': 0}, vit=dict(**VIT, class_token=True, num_registers=2)
    )


# From the original code, with the position embedding's row of the class token it does not have.
@pytest.mark.parametrize(
    ('arch', 'total', 'width'), [('t', 7_966_640, 192), ('s', 27_503_888, 384)]
)
def test_parameter_counts_are_the_originals(arch, total, width):
    with torch.device('meta'):
        model, segmentor = ViTAdapter(arch), ViTAdapter(f'{arch}_seg')
    assert sum(p.numel() for p in model.parameters()) == total - width
    assert sum(p.numel() for p in segmentor.parameters()) == total - width


def test_l_has_the_published_windows():
    with torch.device('meta'):
        model = ViTAdapter('l')
    assert model.vit.windows == (14, 14, 14, 14, 14, 0) * 4
    assert model.groups == ((0, 5), (6, 11), (12, 17), (18, 23))


@pytest.mark.parametrize(
    'arguments',
    [
        dict(extra_extractors=0),
        dict(extra_extractors=1, ffn_ratio=0.5, num_points=3),
        dict(ffn_ratio=0),
        # ViT-Adapter-B light of the segmentation tree.
        dict(interaction_indexes=[(0, 3)], extra_extractors=0, ffn_ratio=0, vit_features='none'),
        dict(interaction_indexes=[[0, 1], [2, 3]]),
        dict(norm_cfg=dict(type='GN', num_groups=4)),
        dict(out_indices=(1, 3)),
    ],
)
def test_options_train(arguments):
    model = draw_parameters(ViTAdapter(TINY, vit=VIT, **arguments))
    without = names_without_gradient(model, torch.randn(2, 3, 64, 64))
    # The last bias of all goes to output norms alone where the finest map does not come out.
    expected = rf'{TestViTAdapter.without_gradient}|extra\.1\.ffn\.fc2\.bias$'
    assert not [name for name in without if not re.search(expected, name)]


def test_a_frozen_vit_stays_in_evaluation_mode_and_gets_no_gradient():
    model = ViTAdapter(TINY, vit=VIT, freeze='vit', drop_path_rate=0.5).train()
    assert not any(module.training for module in model.vit.modules())
    sum(out.mean() for out in model(torch.randn(2, 3, 64, 64))).backward()
    assert all(p.grad is None for p in model.vit.parameters())
    assert all(p.grad is not None for name, p in model.named_parameters() if name[:4] != 'vit.')


def test_the_vit_begins_undisturbed():
    """Injectors begin at zero: the patch tokens are those of the ViT alone."""
    model = ViTAdapter(TINY, vit=VIT).eval()
    seen = []
    model.vit.blocks[-1].register_forward_hook(lambda _, __, out: seen.append(out))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        model(image)
        model.vit(image)
    torch.testing.assert_close(seen[0], seen[1])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(interaction_indexes=[(0, 1), (3, 3)]), r'do not cover the 4 blocks'),
        (dict(vit_features='all'), r"vit_features='all': expected"),
        (dict(vit_features='stages', interaction_indexes=[(0, 3)]), r'there are 1 stages'),
        (dict(vit=dict(patch_size=14)), r'ViTAdapter joins a ViT of patch size 16 .*, got 14'),
        (dict(vit=dict(arch='s')), r'12 blocks of width 384, but arch says 4 of width 32'),
        (dict(deform_heads=5), r'5 heads of deformable attention do not divide its width 32'),
        (dict(freeze='cnn'), r"freeze='cnn': expected None or 'vit'"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        ViTAdapter(**{'arch': TINY, **arguments})(torch.randn(2, 3, 32, 32))


def test_layer_depths_are_the_vits_and_the_adapter_is_last():
    model = ViTAdapter(TINY, vit=VIT)
    assert model.get_layer_depth('backbone.vit.pos_embed', 'backbone.') == (0, 6)
    assert model.get_layer_depth('backbone.vit.blocks.0.norm1.bias', 'backbone.') == (1, 6)
    assert model.get_layer_depth('backbone.cnn.stem.0.0.weight', 'backbone.') == (5, 6)
