import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from mmhybrid.models.layers import (
    DoublingConv,
    DropPath,
    RelativePositionBias,
    build_norm,
    is_pointwise,
    join_levels,
    reference_points,
    resize_map,
    resize_positions,
    resize_rows,
    rotary_positions,
    split_levels,
)
from mmhybrid.models.layers.export import resize_by_matrices
from mmhybrid.models.layers.pyramid import level_sizes


def test_levels_split_into_views_and_join_again():
    shapes = ((4, 6), (2, 3))
    tokens = torch.randn(2, 30, 5)
    maps = split_levels(tokens, shapes)
    assert [tuple(m.shape) for m in maps] == [(2, 5, 4, 6), (2, 5, 2, 3)]
    assert maps[0].data_ptr() == tokens.data_ptr()
    assert torch.equal(maps[1][1, :, 1, 2], tokens[1, 29])
    assert torch.equal(join_levels(maps), tokens)


def test_sizes_of_levels_are_brought_to_a_device_once():
    shapes, device = ((4, 6), (2, 3)), torch.device('cpu')
    with torch.inference_mode():
        sizes = level_sizes(shapes, device)
    assert sizes.tolist() == [[6, 4], [3, 2]] and not sizes.is_inference()
    assert level_sizes(shapes, device) is sizes
    with FakeTensorMode():
        fake = level_sizes(shapes, device)
        assert isinstance(fake, FakeTensor)
        fake = level_sizes(((8, 8),), device)
    assert not isinstance(level_sizes(((8, 8),), device), FakeTensor)


@pytest.mark.parametrize('antialias', [False, True])
@pytest.mark.parametrize('size', [(7, 5), (3, 11), (2, 2)])
def test_bicubic_by_matrices_is_torchs(size, antialias):
    maps = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    expected = F.interpolate(maps, size=size, mode='bicubic', antialias=antialias)
    torch.testing.assert_close(resize_by_matrices(maps, size, 0.0, antialias), expected)


@pytest.mark.parametrize('factor', [1, 2, 4])
def test_rows_resize_as_in_their_map(factor):
    level = torch.randn(2, 3, 5, 4)
    whole = resize_map(level, (5 * factor, 4 * factor))
    for first, last in ((0, 5), (0, 2), (1, 3), (4, 5)):
        rows = resize_rows(level, factor, first, last)
        torch.testing.assert_close(rows, whole[:, :, first * factor : last * factor])


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_doubling_is_a_transposed_convolution_plus_maps(memory_format):
    conv = DoublingConv(3, 5).double()
    maps, small = torch.randn(2, 5, 8, 6).double(), torch.randn(2, 3, 4, 3).double()
    maps, small = (t.to(memory_format=memory_format).requires_grad_() for t in (maps, small))
    inputs = maps, small, conv.weight, conv.bias
    out = conv(maps, small)
    expected = maps + F.conv_transpose2d(small, conv.weight, conv.bias, stride=2)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    torch.testing.assert_close(
        torch.autograd.grad(out, inputs, grad), torch.autograd.grad(expected, inputs, grad)
    )


def test_reference_points_are_pixel_centres():
    points = reference_points(((1, 2), (1, 1)), torch.device('cpu'))
    assert points.tolist() == [[0.25, 0.5], [0.75, 0.5], [0.5, 0.5]]


def test_positions_keep_their_grid_and_resize_to_others():
    positions = torch.randn(1, 12, 8)
    assert resize_positions(positions, (3, 4), (3, 4)) is positions
    resized = resize_positions(positions, (3, 4), (6, 5))
    assert resized.shape == (1, 30, 8)
    constant = resize_positions(torch.ones(1, 12, 8), (3, 4), (7, 9), offset=0.1)
    torch.testing.assert_close(constant, torch.ones(1, 63, 8))


@pytest.mark.parametrize('class_token', [False, True])
def test_relative_bias_depends_on_offsets_alone(class_token):
    bias = RelativePositionBias((3, 4), 2, class_token=class_token)
    nn.init.normal_(bias.table)
    out = bias((3, 4))
    tokens = 12 + class_token
    assert out.shape == (2, tokens, tokens)
    patches = out[:, class_token:, class_token:].reshape(2, 3, 4, 3, 4)
    # One step right, seen from two places.
    torch.testing.assert_close(patches[:, 0, 0, 0, 1], patches[:, 2, 2, 2, 3])
    assert not torch.equal(patches[:, 0, 0, 0, 1], patches[:, 0, 1, 0, 0])
    if class_token:
        to_patch, to_class, itself = bias.table[-3:]
        assert torch.equal(out[:, 0, 5], to_patch)
        assert torch.equal(out[:, 5, 0], to_class)
        assert torch.equal(out[:, 0, 0], itself)
    assert bias((5, 7)).shape == (2, 35 + class_token, 35 + class_token)


def test_rotary_positions_mirror_around_the_centre():
    sin, cos = rotary_positions((4, 6), 16, base=100.0, device=torch.device('cpu'))
    assert sin.shape == cos.shape == (24, 16)
    torch.testing.assert_close(sin[0], -sin[-1])
    torch.testing.assert_close(cos[0], cos[-1])


def test_drop_path_keeps_the_mean():
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    out = drop(torch.ones(4000, 2, 3))
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert out.mean() == pytest.approx(1, abs=0.05)
    assert torch.equal(out[:, 0, 0], out[:, 1, 2])
    with pytest.raises(ValueError, match='probability'):
        DropPath(1.0)


@pytest.mark.parametrize(
    ('cfg', 'kind'),
    [
        (dict(type='BN', eps=1e-3), nn.BatchNorm2d),
        (dict(type='SyncBN'), nn.SyncBatchNorm),
        (dict(type='GN', num_groups=2), nn.GroupNorm),
        (dict(type='LN', requires_grad=False), nn.LayerNorm),
    ],
)
def test_build_norm(cfg, kind):
    norm = build_norm(cfg, 8)
    assert type(norm) is kind
    assert norm.weight.requires_grad == cfg.get('requires_grad', True)
    assert 'type' in cfg


@pytest.mark.parametrize(
    ('cfg', 'expected'),
    [
        (dict(type='BN'), True),
        (dict(type='BN', track_running_stats=False), False),
        (dict(type='SyncBN'), True),
        (dict(type='LN2d'), True),
        (dict(type='GN', num_groups=2), False),
    ],
)
def test_which_norms_look_at_single_pixels(cfg, expected):
    norm = build_norm(cfg, 4).eval()
    assert is_pointwise(norm) == expected
    maps = torch.randn(1, 4, 6, 6)
    if expected:
        torch.testing.assert_close(norm(maps)[:, :, 2:4], norm(maps[:, :, 2:4]))
    if cfg['type'] != 'LN2d':
        assert not is_pointwise(norm.train())
