"""What ViT-CoMer and ViT-Adapter share."""

import copy
import inspect
from dataclasses import dataclass

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmhybrid.engine.flops import count_macs
from mmhybrid.models.backbones import ViTAdapter, ViTCoMer, adapter
from mmhybrid.models.backbones.arch import option
from mmhybrid.models.backbones.vit import SIZES
from mmhybrid.models.layers import blocks
from mmhybrid.registry import MODELS
from tests.models.backbones.contract import BackboneContract

TINY = dict(
    embed_dims=32, depth=4, num_heads=2, deform_heads=2, num_points=2, stem_channels=8, windows=2
)


class Sizes(TorchDispatchMode):
    """Notes how many values every result has."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.seen += [out.numel()] if isinstance(out, torch.Tensor) else []
        return out


@pytest.mark.parametrize('backbone', [ViTCoMer, ViTAdapter])
@pytest.mark.parametrize('norm', ['BN', 'GN'])
def test_the_finest_map_is_whole_but_once(backbone, norm, monkeypatch):
    norm_cfg = dict(type=norm, num_groups=4) if norm == 'GN' else dict(type=norm)
    model = backbone(TINY, vit=dict(pretrain_size=64), norm_cfg=norm_cfg).eval()
    for buffer in model.norms.buffers():
        if buffer.is_floating_point():
            torch.nn.init.uniform_(buffer, 0.5, 2)
    given, merge_maps = [], adapter.merge_maps

    def merge(*arguments):
        given[:] = arguments
        return merge_maps(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(adapter, 'merge_maps', merge)
        expected = model(torch.randn(2, 3, 70, 100))
    monkeypatch.setattr(blocks, 'BLOCK', 1)
    with torch.no_grad(), Sizes() as sizes:
        outs = adapter.merge_maps(*given)
    torch.testing.assert_close(outs, expected)
    assert outs[0].shape == (2, 32, 18, 25)
    assert outs[0].is_contiguous()
    large = [count for count in sizes.seen if count >= outs[0].numel()]
    if norm == 'BN':
        assert len(large) == 1
    else:  # group norm has to see the whole map
        assert len(large) > 1


@pytest.mark.parametrize('backbone', [ViTCoMer, ViTAdapter])
@pytest.mark.parametrize('values', [1, 2000])
def test_the_stem_in_bands(backbone, values, monkeypatch):
    cnn = backbone(TINY, vit=dict(pretrain_size=64)).cnn.eval()
    for buffer in cnn.buffers():
        if buffer.is_floating_point():
            torch.nn.init.uniform_(buffer, 0.5, 2)
    for norm in cnn.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(norm.bias, -1, 1)
    image = torch.randn(2, 3, 122, 75)
    whole = 2 * 8 * 61 * 38  # values of a map of stride 2
    with Sizes() as sizes:
        expected = cnn.stem(image)
    assert whole in sizes.seen
    macs = count_macs(cnn, image)
    monkeypatch.setattr('mmhybrid.models.layers.conv_pyramid.BLOCK', values)
    with torch.no_grad(), Sizes() as sizes:
        finest, *_ = cnn(image)
    torch.testing.assert_close(finest, expected)
    assert finest.shape[2:] == (31, 19)
    assert finest.is_contiguous(memory_format=torch.channels_last)
    assert whole not in sizes.seen
    assert count_macs(cnn, image) == macs  # bands overlap, which is not counted


@pytest.mark.parametrize('backbone', [ViTCoMer, ViTAdapter])
@pytest.mark.parametrize('prepare', ['train', 'eval', 'fuse'])
def test_the_stem_keeps_its_convolutions_alone(backbone, prepare):
    model = backbone(TINY, vit=dict(pretrain_size=64))
    getattr(model, prepare)()
    plain, thrifty = copy.deepcopy(model.cnn), model.cnn
    image = torch.randn(2, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    expected = plain.stem(image)
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.setdefault(tensor.data_ptr(), tensor), lambda tensor: tensor
    ):
        out = thrifty(image)[0]
    assert [tensor.numel() for tensor in kept.values()].count(2 * 8 * 32 * 48) == 3  # of stride 2
    torch.testing.assert_close(out, expected)
    grad = torch.randn(out.shape)
    expected.backward(grad)
    out.backward(grad)
    for ours, theirs in zip(thrifty.stem.parameters(), plain.stem.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(thrifty.stem.state_dict(), plain.stem.state_dict())


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
