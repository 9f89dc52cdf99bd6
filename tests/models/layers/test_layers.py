import pytest
import torch
from torch import nn

from mmhybrid.models.layers import (
    DropPath,
    RelativePositionBias,
    build_norm,
    resize_positions,
    rotary_positions,
)


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
    sin, cos = rotary_positions((4, 6), 16, torch.device('cpu'))
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


def test_layer_norm_of_maps():
    norm, maps = build_norm(dict(type='LN2d', eps=0.1), 4), torch.randn(2, 4, 3, 5)
    nn.init.normal_(norm.weight)
    centred = maps - maps.mean(1, keepdim=True)
    expected = centred / (centred.square().mean(1, keepdim=True) + 0.1).sqrt()
    torch.testing.assert_close(norm(maps), expected * norm.weight.view(4, 1, 1))


def test_unknown_norms():
    with pytest.raises(ValueError, match=r"unknown norm type 'IN' .* use one of \('BN',"):
        build_norm(dict(type='IN'), 4)
    with pytest.raises(ValueError, match='GN needs num_groups'):
        build_norm(dict(type='GN'), 4)
