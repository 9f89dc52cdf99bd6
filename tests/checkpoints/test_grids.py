"""Positions on grids that are no squares, and grids that a number of positions hides."""

from math import isqrt

import pytest
import torch
import torch.nn.functional as F

from mmhybrid.checkpoints import load_weights
from mmhybrid.checkpoints.resize import likeliest_grid, resize_relative_positions
from mmhybrid.models.backbones import ViT, ViTAdapter, ViTCoMer
from tests.checkpoints import published
from tests.checkpoints.published import PATCH, WIDTH, build_vit
from tests.checkpoints.test_load import PARTS, refused

GRIDS = [(9, 16), (16, 9), (18, 32), (12, 12), (14, 14), (8, 32), (16, 16)]


def trained(grid, width=WIDTH, tokens=1, seed=0):
    """Positions as training leaves them: smooth over the image, each with something of its own."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, width, 5, 5, generator=generator)
    maps = F.interpolate(coarse, grid, mode='bicubic', align_corners=True)
    maps = maps + 0.5 * torch.randn(maps.shape, generator=generator)
    rows = maps.flatten(2).transpose(1, 2)  # (1, C, h, w) -> (1, h w, C)
    return torch.cat([torch.randn(1, tokens, width, generator=generator), rows], dim=1)


def fixed(grid, width=64):
    """MAE's positions: sines and cosines of row and column."""
    omega = 10000.0 ** -(torch.arange(width // 4) / (width // 4))
    y, x = (torch.arange(float(side))[:, None] * omega for side in grid)
    y, x = (torch.cat([part.sin(), part.cos()], dim=1) for part in (y, x))
    y, x = y[:, None].expand(*grid, -1), x[None].expand(*grid, -1)
    rows = torch.cat([x, y], dim=2).flatten(0, 1)[None]  # (h, w, C) -> (1, h w, C)
    return torch.cat([torch.zeros(1, 1, width), rows], dim=1)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('positions', [trained, fixed])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_likeliest_grid(grid, positions, dtype):
    rows = positions(grid, width=64).to(dtype)
    assert likeliest_grid(rows, (0, 1)) == grid
    assert likeliest_grid(rows, (0, 1), assumed=(1, grid)) is None
    side = isqrt(grid[0] * grid[1])
    for other in {(side, side), grid[::-1]} - {grid}:
        if other[0] * other[1] == grid[0] * grid[1]:
            assert likeliest_grid(rows, (0, 1), assumed=(1, other)) == grid


@pytest.mark.parametrize('rows', [17, 50, 145, 197, 577])
@pytest.mark.parametrize('width', [8, 32, 384])
def test_positions_that_were_not_trained_tell_nothing(rows, width):
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(1, rows, width, generator=generator)
        assert likeliest_grid(noise, (0, 1)) is None
    assert likeliest_grid(torch.zeros(1, rows, width), (0, 1)) is None


def deit(grid):
    state_dict = published.deit()
    state_dict['pos_embed'] = trained(grid)
    return state_dict


def test_a_grid_that_its_values_contradict_is_asked_for():
    message = refused(build_vit(pretrain_size=12 * PATCH), deit((9, 16)))
    assert '12x12' in message and 'position_grid=(9, 16)' in message
    assert 'position_grid=(9, 16)' in refused(build_vit(), deit((9, 16)))
    # A model of the same number of positions knows no better.
    model = build_vit(pretrain_size=(9 * PATCH, 16 * PATCH))
    assert 'position_grid=(12, 12)' in refused(model, deit((12, 12)))
    report = load_weights(model, deit((12, 12)), parts=PARTS, position_grid=(12, 12))
    assert '12x12 -> 9x16 grid' in report.resized['pos_embed']
    report = load_weights(build_vit(), deit((9, 16)), parts=PARTS, position_grid=[9, 16])
    assert '9x16 -> 4x4 grid' in report.resized['pos_embed']
    assert f'pretrain_size={(9 * PATCH, 16 * PATCH)} keeps all' in report.resized['pos_embed']


def test_a_grid_that_cannot_be_told_is_asked_for():
    state_dict = published.deit()
    state_dict['pos_embed'] = torch.randn(1, 1 + 9 * 15, WIDTH)
    assert 'position_grid=(height, width)' in refused(build_vit(), state_dict)
    assert 'position_grid=(9, 15)' in refused(build_vit(), deit((9, 15)))


@pytest.mark.parametrize('tokens', [dict(), dict(class_token=False)])
def test_the_grid_of_the_model_is_taken_where_it_fits(tokens):
    state_dict = deit((9, 16))
    model = build_vit(pretrain_size=(9 * PATCH, 16 * PATCH), **tokens)
    report = load_weights(model, state_dict, parts=PARTS)
    assert 'grid' not in report.resized.get('pos_embed', '')
    rows = model.pos_embed[:, model.num_prefix_positions :]
    assert torch.equal(rows, state_dict['pos_embed'][:, 1:])


@pytest.mark.parametrize('adapter', [ViTCoMer, ViTAdapter])
def test_grids_in_adapters(adapter):
    state_dict = published.deit(depth=4, patch=16)
    state_dict['pos_embed'] = trained((9, 16))
    arch = dict(embed_dims=WIDTH, depth=4, num_heads=2, stem_channels=8, windows=0)
    square = adapter(arch | dict(deform_heads=2), vit=dict(pretrain_size=192))
    assert 'position_grid=(9, 16)' in refused(square, state_dict)
    model = adapter(arch | dict(deform_heads=2), vit=dict(pretrain_size=(144, 256))).eval()
    load_weights(model, state_dict, parts=model.pretrained_parts)
    assert torch.equal(model.vit.pos_embed, state_dict['pos_embed'][:, 1:])
    with torch.no_grad():
        assert model(torch.randn(1, 3, 144, 256))[1].shape[2:] == (18, 32)
    again = adapter(arch | dict(deform_heads=2), vit=dict(pretrain_size=(144, 256)))
    load_weights(again, model.state_dict(), parts=again.pretrained_parts)
    assert torch.equal(again.vit.pos_embed, model.vit.pos_embed)


def test_relative_tables_of_other_windows():
    table = torch.randn(5 * 9 + 3, 2)  # of a window of 3 x 5
    assert torch.equal(resize_relative_positions(table, (3, 5), 3, (3, 5)), table)
    square = resize_relative_positions(table, (4, 4), 0, (3, 5))
    maps = table[:45].view(1, 5, 9, 2).permute(0, 3, 1, 2)  # (h w, heads) -> (1, heads, h, w)
    expected = F.interpolate(maps, (7, 7), mode='bicubic', align_corners=False)
    assert torch.allclose(square, expected[0].flatten(1).T, atol=1e-6)
    with pytest.raises(ValueError, match='position_grid'):
        resize_relative_positions(table, (4, 4), 0)
    state_dict = published.beit()
    for name in [name for name in state_dict if name.endswith('bias_table')]:
        state_dict[name] = table
    assert 'position_grid' in refused(build_vit('beit'), state_dict)
    report = load_weights(build_vit('beit'), state_dict, parts=PARTS, position_grid=(3, 5))
    assert len(report.resized) == published.DEPTH
    same = build_vit('beit', pretrain_size=(3 * PATCH, 5 * PATCH))
    assert not load_weights(same, state_dict, parts=PARTS).resized
    assert torch.equal(same.blocks[1].relative_bias.table, table)
    without = build_vit('beit', pretrain_size=(3 * PATCH, 5 * PATCH), class_token=False)
    load_weights(without, state_dict, parts=PARTS)
    assert torch.equal(without.blocks[1].relative_bias.table, table[:-3])


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'vit_base_patch16_reg4_gap_256'])
def test_features_are_those_of_timm(name):
    timm = pytest.importorskip('timm')
    torch.manual_seed(0)
    peer = timm.create_model(
        name, embed_dim=48, depth=3, num_heads=3, img_size=(144, 256), pretrained=False
    ).eval()
    tokens = dict(class_token=False, num_registers=4) if 'reg4' in name else {}
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        peer.pos_embed.copy_(trained((9, 16), width=48, tokens=1 - bool(tokens)))
    arch = dict(embed_dims=48, depth=3, num_heads=3)
    model = ViT(arch, out_indices=(0, 2), pretrain_size=(144, 256), **tokens).eval()
    load_weights(model, peer.state_dict(), parts=PARTS)
    image = torch.randn(2, 3, 144, 256)
    with torch.no_grad():
        expected = peer.forward_intermediates(
            image, indices=[0, 2], norm=False, intermediates_only=True
        )
        outputs = model(image)
    for output, reference in zip(outputs, expected, strict=True):
        assert (output - reference).abs().max() < 2e-6 * reference.abs().max()


@pytest.mark.parametrize('size', [(64, 8), (64, 64, 64), (0, 64)])
def test_sizes_that_are_none(size):
    with pytest.raises(ValueError, match=r'pretrain_size.*64'):
        build_vit(pretrain_size=size, patch_size=16)
