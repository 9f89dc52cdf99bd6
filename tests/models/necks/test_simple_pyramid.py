import copy

import pytest
import torch

from mmhybrid.models.necks import SimplePyramid
from mmhybrid.registry import MODELS


def shapes(outs):
    return [tuple(out.shape[1:]) for out in outs]


def test_strides_4_to_32():
    neck = SimplePyramid(16, 8)
    outs = neck([torch.randn(2, 3, 5, 5), torch.randn(2, 16, 4, 6)])
    assert isinstance(outs, tuple)
    assert shapes(outs) == [(8, 16, 24), (8, 8, 12), (8, 4, 6), (8, 2, 3)]
    sum(out.square().mean() for out in outs).backward()
    assert all(p.grad is not None for p in neck.parameters())


def test_strides_that_detectors_add():
    outs = SimplePyramid(16, 8, strides=(4, 8, 16, 32, 64))([torch.randn(1, 16, 4, 6)])
    assert shapes(outs)[3:] == [(8, 2, 3), (8, 1, 2)]
    assert torch.equal(outs[4], outs[3][:, :, ::2, ::2])
    outs = SimplePyramid(16, 8, strides=(8, 16, 32, 64, 128))([torch.randn(1, 16, 4, 6)])
    assert shapes(outs) == [(8, 8, 12), (8, 4, 6), (8, 2, 3), (8, 1, 2), (8, 1, 1)]


def test_odd_maps_are_halved_rounding_up():
    outs = SimplePyramid(16, 8)([torch.randn(1, 16, 5, 1)])
    assert shapes(outs)[-1] == (8, 3, 1)


def test_each_map_comes_from_the_last_alone():
    neck = SimplePyramid([4, 4, 16], 8).eval()
    last = torch.randn(1, 16, 4, 4)
    with torch.no_grad():
        one, other = neck([torch.zeros(1, 4, 8, 8), last]), neck([last])
    assert all(map(torch.equal, one, other))


def test_parameters_are_those_of_vitdet():
    """768 to 256 channels, counted on detectron2's layers."""
    up = lambda a: 4 * a * (a // 2) + a // 2  # noqa: E731
    out = lambda a: a * 256 + 9 * 256 * 256 + 2 * 2 * 256  # noqa: E731
    expected = up(768) + 2 * 384 + up(384) + out(192) + up(768) + out(384) + 2 * out(768)
    assert sum(p.numel() for p in SimplePyramid(768).parameters()) == expected


@pytest.mark.parametrize('norm_cfg', [dict(type='BN'), dict(type='GN', num_groups=2)])
def test_norms_and_configs(norm_cfg):
    config = dict(type='mmhybrid.SimplePyramid', in_channels=16, out_channels=8, norm_cfg=norm_cfg)
    before = copy.deepcopy(config)
    neck = MODELS.build(config)
    assert len(neck([torch.randn(2, 16, 4, 4)])) == 4
    assert config == before


@pytest.mark.parametrize('strides', [(), (4, 16), (2, 4), (64, 128), (32, 16), (4, 8, 8)])
def test_bad_strides(strides):
    with pytest.raises(ValueError, match=r'stride 16: expected a run of 4, 8, 16, 32'):
        SimplePyramid(16, strides=strides)


def test_a_map_of_other_channels():
    with pytest.raises(ValueError, match=r'\(N, 16, h, w\), got \(1, 8, 4, 4\)'):
        SimplePyramid(16)([torch.randn(1, 8, 4, 4)])
