"""A learned bias for each pair of a query and a key position, for grids of any size."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from ..kernels import Grid, is_known, resize_bicubic


class PairBias(nn.Module):
    """Bias ``(heads, queries, keys)`` of one training size, resized to any other.

    The table is a function of two places, one on the query grid and one on the key grid.
    ``resize='separable'`` resamples it along each of the four sides, bicubic. ``'flat'`` treats the
    flattened table as one image, as the CMT paper's sentence can be read: it scrambles columns as
    soon as the width changes, and is there to reproduce such runs.

    Args:
        query_grid, key_grid: ``(h, w)`` of the training size.
        num_heads: heads.
        resize: ``'separable'`` or ``'flat'``.
    """

    def __init__(
        self,
        query_grid: Grid,
        key_grid: Grid,
        num_heads: int,
        *,
        resize: Literal['separable', 'flat'] = 'separable',
    ):
        super().__init__()
        if resize not in ('separable', 'flat'):
            raise ValueError(f"bias_resize={resize!r:.200}: expected 'separable' or 'flat'")
        self.query_grid, self.key_grid = query_grid, key_grid
        self.resize = resize
        queries, keys = query_grid[0] * query_grid[1], key_grid[0] * key_grid[1]
        self.table = nn.Parameter(torch.randn(num_heads, queries, keys))

    def forward(self, query_grid: Grid, key_grid: Grid) -> Tensor:
        """Return the bias ``(heads, queries, keys)`` of the given grids."""
        grids = (*query_grid, *key_grid)
        if is_known(*grids) and grids == (*self.query_grid, *self.key_grid):
            return self.table
        if self.resize == 'flat':
            size = (query_grid[0] * query_grid[1], key_grid[0] * key_grid[1])
            return resize_bicubic(self.table[None].float(), size)[0]
        with _full_precision(self.table.device):
            return self._resize(self.table.float(), query_grid, key_grid)

    def _resize(self, table: Tensor, query_grid: Grid, key_grid: Grid) -> Tensor:
        """Resize by matrices, the smaller key grid first."""
        heads, (h, w) = len(table), self.query_grid
        # (heads, h w, K) -> (heads, h w, K')
        table = table @ _bicubic_grid(self.key_grid, key_grid, table).T
        # (heads, h w, K') -> (heads, h, w K') -> (heads, h', w K')
        table = _bicubic(h, query_grid[0], table) @ table.reshape(heads, h, -1)
        # (heads, h', w K') -> (heads, h', w, K') -> (heads, h', w', K')
        table = _bicubic(w, query_grid[1], table) @ table.unflatten(2, (w, -1))
        return table.flatten(1, 2)  # (heads, h', w', K') -> (heads, h' w', K')

    def extra_repr(self) -> str:
        (h, w), (key_h, key_w) = self.query_grid, self.key_grid
        return f'{h}x{w} queries, {key_h}x{key_w} keys, resize={self.resize!r}'


def _bicubic(old: int, new: int, like: Tensor) -> Tensor:
    """Return the matrix ``(new, old)`` that resizes one side as ``F.interpolate`` does."""
    units = torch.eye(old, device=like.device, dtype=like.dtype)
    # A line of unit values a channel: (old, old) -> (1, old, old, 1) -> (1, old, new, 1)
    lines = resize_bicubic(units[None, :, :, None], (new, 1))
    return lines[0, :, :, 0].T


def _bicubic_grid(old: Grid, new: Grid, like: Tensor) -> Tensor:
    """Return the matrix ``(h' w', h w)`` that resizes both sides of a flattened grid."""
    rows, columns = (_bicubic(*sides, like) for sides in zip(old, new, strict=True))
    # (h', w', h, w), then flattened. Not torch.kron: exporters fix its sizes to the example's.
    return (rows[:, None, :, None] * columns[:, None]).flatten(2).flatten(0, 1)


def _full_precision(device: torch.device) -> AbstractContextManager:
    """Switch autocast off, on devices that have it (meta has none)."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
