import pytest
import torch
import torch.nn.functional as F

from mmhybrid.checkpoints.resize import (
    map_input_channels,
    resize_grid,
    resize_patch_embed,
    resize_pos_embed,
    resize_relative_positions,
    split_positions,
    split_relative_positions,
)


def test_patch_embed_bilinear_is_the_originals():
    weight = torch.randn(4, 3, 14, 14)
    expected = F.interpolate(weight, (16, 16), mode='bilinear', align_corners=False)
    assert torch.equal(resize_patch_embed(weight, (16, 16)), expected)
    assert resize_patch_embed(weight, (14, 14)) is weight


@pytest.mark.parametrize(('old', 'new'), [((14, 14), (16, 16)), ((8, 8), (16, 12))])
def test_pseudo_inverse_keeps_the_tokens_of_an_enlarged_patch(old, new):
    weight = torch.randn(5, 3, *old)
    patch = torch.randn(2, 3, *old)
    large = F.interpolate(patch, new, mode='bilinear', align_corners=False, antialias=True)
    tokens = F.conv2d(patch, weight)
    resized = resize_patch_embed(weight, new, 'pseudo_inverse')
    assert resized.shape == (5, 3, *new)
    assert torch.allclose(F.conv2d(large, resized), tokens, atol=1e-4)
    bilinear = resize_patch_embed(weight, new)
    assert not torch.allclose(F.conv2d(large, bilinear), tokens, atol=1e-1)


def test_pseudo_inverse_is_best_for_a_smaller_patch():
    """No small change of the kernel brings the tokens of all smaller patches closer."""
    weight, unit = torch.randn(1, 1, 6, 6), torch.eye(36).view(36, 1, 6, 6)
    small = F.interpolate(unit, (4, 4), mode='bilinear', align_corners=False, antialias=True)
    resized = resize_patch_embed(weight, (4, 4), 'pseudo_inverse').requires_grad_()
    error = (F.conv2d(small, resized) - F.conv2d(unit, weight)).square().sum()
    error.backward()
    assert resized.grad.abs().max() < 1e-4


def test_unknown_patch_resize():
    with pytest.raises(ValueError, match="'nearest'"):
        resize_patch_embed(torch.randn(1, 3, 4, 4), (8, 8), 'nearest')


def test_grid_keeps_rows_and_columns_apart():
    grid = torch.arange(4.0).view(1, 4, 1, 1).expand(1, 4, 6, 1)  # the row's number
    resized = resize_grid(grid, (8, 3))
    assert resized.shape == (1, 8, 3, 1)
    assert torch.allclose(resized[:, :, :1], resized)
    assert (resized[0, 1:, 0] > resized[0, :-1, 0]).all()


def test_positions():
    assert split_positions(197) == (1, (14, 14))
    assert split_positions(198) == (2, (14, 14))
    assert split_positions(196) == (0, (14, 14))
    assert split_positions(200) is None
    assert split_positions(15, (2, 7)) == (1, (2, 7))
    assert split_positions(14, (3, 7)) is None

    positions = torch.randn(1, 17, 8)
    same = resize_pos_embed(positions, (4, 4), 1, file_tokens=1)
    assert torch.equal(same, positions)
    assert torch.equal(resize_pos_embed(positions, (4, 4), 0, file_tokens=1), positions[:, 1:])
    resized = resize_pos_embed(positions, (3, 5), 1, file_tokens=1)
    assert resized.shape == (1, 16, 8) and torch.equal(resized[:, 0], positions[:, 0])
    without = resize_pos_embed(positions[:, 1:], (4, 4), 1, file_tokens=1)
    assert not without[:, 0].any() and torch.equal(without[:, 1:], positions[:, 1:])
    for rows, file_tokens, tokens in ((18, 1, 1), (16, 2, 2), (17, 2, 1), (19, 1, 1), (17, 1, 2)):
        with pytest.raises(ValueError):
            resize_pos_embed(torch.randn(1, rows, 8), (4, 4), tokens, file_tokens=file_tokens)


def test_relative_positions():
    assert split_relative_positions(732) == ((14, 14), 3)
    assert split_relative_positions(729) == ((14, 14), 0)
    assert split_relative_positions(730) is None
    assert split_relative_positions(16) is None  # 4 x 4: no window has an even number of offsets

    table = torch.randn(52, 2)
    assert torch.equal(resize_relative_positions(table, (4, 4), 3), table)
    assert torch.equal(resize_relative_positions(table, (4, 4), 0), table[:49])
    resized = resize_relative_positions(table, (6, 3), 3)
    assert resized.shape == (11 * 5 + 3, 2) and torch.equal(resized[-3:], table[-3:])
    # The offset of a patch to itself stays in the middle.
    assert torch.allclose(resized[(11 * 5) // 2], table[49 // 2], atol=1e-5)
    for rows, extra in ((49, 3), (50, 0)):
        with pytest.raises(ValueError):
            resize_relative_positions(torch.randn(rows, 2), (4, 4), extra)


def test_input_channels():
    weight = torch.randn(4, 3, 2, 2)
    mapped = map_input_channels(weight, (1, None, 3), 5, extra='mean')
    assert torch.equal(mapped[:, 1], weight[:, 0]) and torch.equal(mapped[:, 3], weight[:, 2])
    assert all(torch.allclose(mapped[:, c], weight.mean(1)) for c in (0, 2, 4))
    assert not map_input_channels(weight, (0, 1, 2), 4)[:, 3].any()
    assert torch.allclose(map_input_channels(weight, (0, 0, 0), 1)[:, 0], weight.sum(1))
    for channels, number in (((0, 1), 3), ((0, 1, 3), 3), ((0, 1, -1), 3)):
        with pytest.raises(ValueError, match='rgb_channels'):
            map_input_channels(weight, channels, number)


def test_dtype_is_kept():
    assert resize_patch_embed(torch.randn(1, 3, 4, 4).half(), (6, 6)).dtype == torch.float16
    assert resize_grid(torch.randn(1, 4, 4, 2).bfloat16(), (6, 6)).dtype == torch.bfloat16
