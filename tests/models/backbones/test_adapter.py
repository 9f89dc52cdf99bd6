"""What ViT-CoMer and ViT-Adapter share."""

import inspect
from dataclasses import dataclass

import pytest

from mmhybrid.models.backbones import adapter
from mmhybrid.models.backbones.arch import option
from mmhybrid.models.backbones.vit import SIZES
from mmhybrid.registry import MODELS
from tests.models.backbones.contract import BackboneContract

TINY = dict(
    embed_dims=32, depth=4, num_heads=2, deform_heads=2, num_points=2, stem_channels=8, windows=2
)


@pytest.mark.parametrize(
    ('depth', 'given', 'expected'),
    [
        (8, None, ((0, 1), (2, 3), (4, 5), (6, 7))),
        (5, [[0, 1], [2, 4]], ((0, 1), (2, 4))),
        (3, [(0,), (1, 2)], ((0, 0), (1, 2))),
    ],
)
def test_groups_of_blocks(depth, given, expected):
    assert adapter.group_blocks(depth, given) == expected


@pytest.mark.parametrize(
    ('depth', 'given', 'message'),
    [
        (6, None, r'6 blocks do not make four equal stages'),
        (4, [(0, 1)], r'do not cover the 4 blocks .* \[\(0, 1\), \(2, 3\)\]'),
        (4, [(0, 2), (2, 3)], r'do not cover the 4 blocks'),
    ],
)
def test_groups_that_do_not_fit(depth, given, message):
    with pytest.raises(ValueError, match=message):
        adapter.group_blocks(depth, given)


@dataclass(frozen=True, kw_only=True)
class SumArch(adapter.AdapterArch):
    """Architecture of a :class:`Sum`."""

    factor: float = option('of the patches', 1.0)


@MODELS.register_module(force=True)
class Sum(adapter.Adapter):
    """An adapter that adds patch tokens to its pyramid: what a third one has to write.

    Args:
        arch: ``'t'``, or a dict.
    """

    family = 'sum'
    arch_type = SumArch
    arch_settings = {'t': SIZES['t']}
    pretrained_parts = {'vit': 'vit.', 'sum': ''}

    def __init__(self, arch='t', **options):
        super().__init__(arch, **options)

    def build_stages(self, attention, norm_cfg, drop_path_rate):
        return [torch.nn.Linear(self.arch.embed_dims, self.arch.embed_dims) for _ in self.groups]

    def forward(self, x):
        self.check_image(x)
        image = self.pad_image(x, 32)
        finest, *maps = self.cnn(image)
        shapes = [tuple(m.shape[2:]) for m in maps]
        pyramid = [m.flatten(2).transpose(1, 2) for m in maps]  # (N, C, h, w) -> (N, h w, C)
        tokens, grid = self.vit.embed(image)
        features = []
        for stage, (first, last) in zip(self.stages, self.groups, strict=True):
            tokens = self.vit.run_blocks(tokens, grid, first, last + 1)
            patches = tokens[:, self.vit.num_prefix_tokens :]
            pyramid[1] = pyramid[1] + self.arch.factor * stage(patches)
            features.append(patches)
        pyramid = [m + e for m, e in zip(pyramid, self.level_embed, strict=True)]
        pyramid = torch.cat(pyramid, dim=1)
        return self.output_maps(finest, pyramid, shapes, features, grid, tuple(x.shape[2:]))


class TestThirdAdapter(BackboneContract):
    """The contract of every backbone, of an adapter that has nothing but the base."""

    backbone = Sum
    arguments = dict(arch=TINY, vit=dict(pretrain_size=64))
    channels = (32, 32, 32, 32)
    strides = (4, 8, 16, 32)
    stages = 4


def test_a_third_adapter_has_the_options_of_all():
    parameters = inspect.signature(Sum).parameters
    assert {'vit', 'freeze', 'windows', 'factor', 'with_cp'} <= set(parameters)
    assert all(f'    {name}: ' in Sum.__doc__ for name in parameters)
    one, other = (Sum(TINY, vit=dict(pretrain_size=64), factor=factor) for factor in (1, 2))
    other.load_state_dict(one.state_dict())
    image = torch.randn(1, 3, 64, 64)
    assert not torch.equal(one(image)[2], other(image)[2])
    frozen = Sum(TINY, vit=dict(pretrain_size=64), freeze='vit').train()
    assert not any(p.requires_grad for p in frozen.vit.parameters())
    with pytest.raises(ValueError, match="freeze='all': expected None or 'vit'"):
        Sum(TINY, freeze='all')
    with pytest.raises(ValueError, match=r"vit_features='stages' .* but there are 2 stages"):
        Sum(TINY, vit_features='stages', interaction_indexes=[(0, 1), (2, 3)])
