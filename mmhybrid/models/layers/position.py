"""Positions of a plain ViT's tokens: learned, relative and rotary, for grids of any size."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels import Grid, is_known, resize_bicubic


def resize_positions(
    positions: Tensor, old: Grid, new: Grid, *, offset: float = 0.0, antialias: bool = False
) -> Tensor:
    """Resize learned positions ``(1, h * w, C)`` of grid ``old`` to grid ``new``, bicubic.

    Args:
        offset: DINOv2 without registers passes ``(new + 0.1) / old`` as the scale, which places the
            samples slightly differently from passing the size; its weights were trained so.
        antialias: low-pass filter when shrinking, as DINOv2 with registers does.
    """
    if is_known(*new) and new == old:
        return positions
    maps = positions.view(1, *old, -1).permute(0, 3, 1, 2)  # (1, h w, C) -> (1, C, h, w)
    maps = maps.float() if maps.dtype.itemsize < 4 else maps
    maps = resize_bicubic(maps, new, offset=offset, antialias=antialias)
    return maps.flatten(2).transpose(1, 2).to(positions.dtype)  # (1, C, H, W) -> (1, H W, C)


class RelativePositionBias(nn.Module):
    """Relative position bias of BEiT (arXiv 2106.08254): one learned table a block.

    The table ``((2 h - 1) * (2 w - 1) + 3, heads)`` has an entry for each offset between two
    patches of the training grid, and with a class token three more: class to patch, patch to class
    and class to class. For another grid the table of offsets is resized, bicubic.
    """

    def __init__(self, grid: Grid, num_heads: int, *, class_token: bool):
        super().__init__()
        self.grid = grid
        self.class_token = class_token
        offsets = (2 * grid[0] - 1) * (2 * grid[1] - 1)
        self.table = nn.Parameter(torch.zeros(offsets + 3 * class_token, num_heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, grid: Grid) -> Tensor:
        """Return the bias ``(heads, L, L)`` of a grid, L its patches and the class token if any."""
        h, w = (2 * self.grid[0] - 1, 2 * self.grid[1] - 1)
        offsets, rest = self.table.split((h * w, len(self.table) - h * w))
        new = (2 * grid[0] - 1, 2 * grid[1] - 1)
        offsets = resize_positions(offsets[None], (h, w), new)[0]
        bias = torch.cat((offsets, rest))[self._index(grid, offsets.device)]
        return bias.permute(2, 0, 1)  # (L, L, heads) -> (heads, L, L)

    def _index(self, grid: Grid, device: torch.device) -> Tensor:
        """Return the table's row for each pair of tokens, ``(L, L)``."""
        h, w = grid
        y, x = (torch.arange(side, device=device) for side in grid)
        y, x = (place.flatten() for place in torch.meshgrid(y, x, indexing='ij'))  # (h w)
        rows = y[:, None] - y[None] + h - 1
        cols = x[:, None] - x[None] + w - 1
        index = rows * (2 * w - 1) + cols
        if not self.class_token:
            return index
        count = (2 * h - 1) * (2 * w - 1)
        index = F.pad(index, (1, 0, 1, 0))
        index[0, :] = count
        index[:, 0] = count + 1
        index[:1, :1] = count + 2  # a slice: for a single place torch would copy it from the CPU
        return index


def rotary_positions(grid: Grid, dims: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Compute sine and cosine of DINOv3's rotary positions, each ``(H * W, dims)``, float32.

    Row and column centres are scaled to [-1, 1] each; a quarter of ``dims`` (a head's width) turns
    with each of them, at periods from 1 to 100 in geometric progression.
    """
    h, w = grid
    y = (torch.arange(h, device=device, dtype=torch.float32) + 0.5) / h * 2 - 1
    x = (torch.arange(w, device=device, dtype=torch.float32) + 0.5) / w * 2 - 1
    # (h, w, 2) -> (h w, 2, 1)
    centres = torch.stack(torch.meshgrid(y, x, indexing='ij'), dim=-1).view(h * w, 2, 1)
    quarter = dims // 4
    periods = 100.0 ** (torch.arange(quarter, device=device, dtype=torch.float32) / quarter)
    angles = (2 * math.pi * centres / periods).flatten(1)  # (H W, 2, dims / 4) -> (H W, dims / 2)
    angles = angles.repeat(1, 2)
    return angles.sin(), angles.cos()
