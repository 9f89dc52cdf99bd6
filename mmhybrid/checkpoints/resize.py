"""Resizing of what a plain ViT's weights say about image size. Pure functions, no model needed.

Each returns a new tensor in the dtype it was given; the arithmetic is float32 or better.
"""

from collections.abc import Sequence
from math import isqrt, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

PATCH_RESIZES = ('bilinear', 'pseudo_inverse')
EXTRA_CHANNELS = ('zero', 'mean')


def resize_patch_embed(weight: Tensor, size: tuple[int, int], method: str = 'bilinear') -> Tensor:
    """Resize the kernel of a patch embedding.

    'bilinear' resamples the kernel itself (``align_corners=False``, no antialiasing): what the
    DINOv2 configs of ViT-Adapter and ViT-CoMer are trained with, 14 -> 16. It is not neutral: a
    patch enlarged by the same factor gives another token (sums grow with the area).
    'pseudo_inverse' is FlexiViT's (arXiv 2212.08013): the kernel whose product with a resized
    patch comes closest to the old product with the patch; exact where the patch grows.

    Args:
        weight: (C_out, C_in, h, w).
        size: the new (h, w).
        method: 'bilinear' or 'pseudo_inverse'.

    Returns:
        (C_out, C_in, *size)
    """
    if method not in PATCH_RESIZES:
        raise ValueError(f'patch_resize is {method!r}; known are {PATCH_RESIZES}')
    old, new = tuple(weight.shape[-2:]), tuple(size)
    if old == new:
        return weight
    if method == 'bilinear':
        resized = F.interpolate(weight.float(), size=new, mode='bilinear', align_corners=False)
        return resized.to(weight.dtype)
    # Rows of `basis` are the resized unit patches, so a resized patch is `patch @ basis`.
    units = torch.eye(old[0] * old[1], dtype=torch.float64).view(-1, 1, *old)
    basis = F.interpolate(units, size=new, mode='bilinear', align_corners=False, antialias=True)
    basis = basis.flatten(1)  # (old area, new area)
    kernels = weight.double().flatten(2) @ torch.linalg.pinv(basis).T
    return kernels.view(*weight.shape[:2], *new).to(weight.dtype)


def resize_grid(grid: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample learned values on a grid, (1, h * w, C) laid out as (h, w) to another (h, w).

    Args:
        grid: (1, h, w, C).
        size: the new (h, w).

    Returns:
        (1, *size, C), bicubic with ``align_corners=False``.
    """
    if tuple(grid.shape[1:3]) == tuple(size):
        return grid
    maps = grid.float().permute(0, 3, 1, 2)  # (1, h, w, C) -> (1, C, h, w)
    maps = F.interpolate(maps, size=tuple(size), mode='bicubic', align_corners=False)
    return maps.permute(0, 2, 3, 1).to(grid.dtype)  # (1, C, h', w') -> (1, h', w', C)


def split_positions(
    num_rows: int, grid: tuple[int, int] | None = None
) -> tuple[int, tuple[int, int]] | None:
    """Tell token rows from grid rows of a position embedding.

    Args:
        num_rows: rows of the embedding.
        grid: (h, w) of its grid; without it the grid is taken to be square.

    Returns:
        (number of token rows, (h, w)), or None where the rows are no such grid with 0, 1 or 2
        rows (class, distillation) before it.
    """
    if grid is None:
        side = isqrt(num_rows)
        grid = (side, side)
    tokens = num_rows - grid[0] * grid[1]
    return (tokens, (grid[0], grid[1])) if 0 <= tokens <= 2 and num_rows > tokens else None


def known_tokens(file_tokens: int | None) -> tuple[int, ...]:
    """Return the numbers of token rows that a position embedding may have.

    Args:
        file_tokens: class and distillation tokens that come with it. Files without a class token
            may have kept its row.
    """
    return (2,) if file_tokens == 2 else (0, 1)


def likeliest_grid(
    pos_embed: Tensor,
    tokens: Sequence[int],
    assumed: tuple[int, tuple[int, int]] | None = None,
) -> tuple[int, int] | None:
    """Find the grid by which trained positions resemble their neighbours, which a count hides.

    145 rows are a class token and 12x12, 9x16 or 16x9 positions. By the right grid a row resembles
    the one below it, and the next one unless a line ends between them.

    Args:
        pos_embed: (1, T + h * w, C), T rows for tokens first.
        tokens: the numbers that T may be.
        assumed: (T, (h, w)) that the result has to surpass; without it, what chance brings.

    Returns:
        (h, w), or None where no grid stands out, as in positions that were not trained.
    """
    best = None
    for count in tokens:
        for height in range(2, (pos_embed.shape[1] - count) // 2 + 1):
            width, rest = divmod(pos_embed.shape[1] - count, height)
            if rest == 0 and width > 1 and (count, (height, width)) != assumed:
                score = _resemblance(pos_embed[0, count:], width)
                best = max(best or (score, 0, 0), (score, height, width))
    if best is None:
        return None
    score, height, width = best
    expected = 0.0
    if assumed is not None:
        expected = _resemblance(pos_embed[0, assumed[0] :], assumed[1][1])
    # Six times what the means of that many products of C random numbers stray.
    chance = max(0.1, 6 / sqrt(pos_embed.shape[2] * (height - 1)))
    return (height, width) if score - expected > chance else None


def _resemblance(rows, width):
    """Correlate rows (h * w, C) with those below and after them, less those after a line's end."""
    rows = F.normalize(rows.float() - rows.float().mean(dim=0), dim=1)
    after = (rows[:-1] * rows[1:]).sum(dim=1)
    ends = torch.arange(1, len(rows)) % width == 0
    below = (rows[:-width] * rows[width:]).sum(dim=1)
    return float(below.mean() + after[~ends].mean() - after[ends].mean())


def resize_pos_embed(
    pos_embed: Tensor,
    size: tuple[int, int],
    num_tokens: int,
    *,
    file_tokens: int,
    grid: tuple[int, int] | None = None,
) -> Tensor:
    """Fit a position embedding to a model with another grid or fewer tokens.

    Args:
        pos_embed: (1, T + h * w, C), T rows for the class and distillation tokens first.
        size: the new (h, w).
        num_tokens: token rows to keep, from the first. They are zeros if the file has none
            at all (timm adds the class position to the class token itself in such files).
        file_tokens: class and distillation tokens that come with ``pos_embed``. With both T is 2,
            else 0 or 1: files without a class token may have kept its row.
        grid: (h, w) of ``pos_embed``; without it the grid is taken to be square.

    Returns:
        (1, num_tokens + size[0] * size[1], C)

    Raises:
        ValueError: the rows are no such embedding, or have too few tokens.
    """
    rows = pos_embed.shape[1]
    split = split_positions(rows, grid)
    known = known_tokens(file_tokens)
    if split is None or split[0] not in known:
        layout = 'a square grid' if grid is None else f'a grid of {grid[0]} x {grid[1]}'
        likely = likeliest_grid(pos_embed, known)
        raise ValueError(
            f'{rows} positions are not those of {layout} and the {file_tokens} class and '
            'distillation tokens of the file; for a grid that is no square give '
            f'position_grid={likely or "(height, width)"}'
            + (', by which neighbours resemble each other' if likely else '')
        )
    tokens, (height, width) = split
    if 0 < tokens < num_tokens:
        raise ValueError(f'{tokens} token positions in the file, {num_tokens} in the model')
    channels = pos_embed.shape[2]
    first = pos_embed[:, :num_tokens] if tokens else pos_embed.new_zeros(1, num_tokens, channels)
    rest = pos_embed[:, tokens:].reshape(1, height, width, channels)
    return torch.cat([first, resize_grid(rest, size).flatten(1, 2)], dim=1)


def split_relative_positions(
    num_rows: int, grid: tuple[int, int] | None = None
) -> tuple[tuple[int, int], int] | None:
    """Split a relative position table: ((h, w) of its window, 0 or 3 class-token rows).

    None where the rows are neither (2 h - 1) * (2 w - 1) nor 3 more. A window is square unless
    ``grid`` fits. No number is both: two odd squares never differ by 3.
    """
    for extra in (3, 0):
        offsets = max(num_rows - extra, 0)
        if grid and offsets == (2 * grid[0] - 1) * (2 * grid[1] - 1):
            return (grid[0], grid[1]), extra
    for extra in (3, 0):
        side = isqrt(max(num_rows - extra, 0))
        if side % 2 and side * side == num_rows - extra:
            return ((side + 1) // 2, (side + 1) // 2), extra
    return None


def resize_relative_positions(
    table: Tensor, size: tuple[int, int], num_extra: int, grid: tuple[int, int] | None = None
) -> Tensor:
    """Fit a table of relative position biases to another window.

    The published code resamples on a geometric grid with scipy or bicubically; this is the
    bicubic form (``align_corners=False``) over offsets.

    Args:
        table: ((2 h - 1) * (2 w - 1) + E, heads); E = 3 rows (class to patch, patch to class, class
            to class) come last, or none.
        size: the new window (h, w).
        num_extra: 3 or 0, rows to keep for the class token.
        grid: the window (h, w) of the table, taken to be square where this does not fit.

    Returns:
        ((2 h - 1) * (2 w - 1) + num_extra, heads)

    Raises:
        ValueError: the rows are no such table, or the class-token rows are wanted and absent.
    """
    split = split_relative_positions(table.shape[0], grid)
    if split is None:
        raise ValueError(
            f'{table.shape[0]} rows are not (2 s - 1)^2 offsets with 0 or 3 more; for a window '
            'that is no square give position_grid=(height, width)'
        )
    (height, width), extra = split
    if num_extra > extra:
        raise ValueError('the file has no rows for the class token')
    height, width = 2 * height - 1, 2 * width - 1
    offsets = table[: height * width].view(1, height, width, -1)  # (h w, heads) -> (1, h, w, heads)
    offsets = resize_grid(offsets, (2 * size[0] - 1, 2 * size[1] - 1)).flatten(0, 2)
    return torch.cat([offsets, table[table.shape[0] - num_extra :]], dim=0)


def map_input_channels(
    weight: Tensor, channels: Sequence[int], num_channels: int, *, extra: str = 'zero'
) -> Tensor:
    """Give the filters of a first convolution another number of input channels.

    Args:
        weight: (C_out, C_in, h, w), usually of an RGB model.
        channels: for each of the C_in channels the model's channel its filter goes to, or None to
            leave it out. Filters that meet in one channel are added: (0, 0, 0) makes a model for
            grey images that answers as the RGB model does to the image repeated three times.
        num_channels: the model's number of input channels.
        extra: the filters of channels nothing goes to. 'zero': the model starts blind to them,
            with the features of the file unchanged. 'mean': the mean filter of the file.

    Returns:
        (C_out, num_channels, h, w)

    Raises:
        ValueError: ``channels`` does not fit either number, or ``extra`` is unknown.
    """
    if extra not in EXTRA_CHANNELS:
        raise ValueError(f'extra_channels is {extra!r}; known are {EXTRA_CHANNELS}')
    channels = tuple(channels)
    known = (None, *range(num_channels))
    if len(channels) != weight.shape[1] or not all(channel in known for channel in channels):
        raise ValueError(
            f'rgb_channels={channels} must name, for each of the {weight.shape[1]} channels of '
            f'the file, one of the {num_channels} channels of the model or None'
        )
    mapped = weight.new_zeros(weight.shape[0], num_channels, *weight.shape[2:])
    for old, new in enumerate(channels):
        if new is not None:
            mapped[:, new] += weight[:, old]
    unset = [c for c in range(num_channels) if c not in channels]
    if extra == 'mean' and unset:
        mapped[:, unset] = weight.mean(dim=1, keepdim=True)
    return mapped
