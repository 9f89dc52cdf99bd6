"""A token pyramid: the maps of several levels as one sequence of tokens.

Tokens ``(N, S, C)`` hold the levels one after another, fine to coarse, each row by row. A level
seen as a map is a channels-last view of its tokens, so going back and forth around a convolution
moves no memory that the convolution would not have moved anyway.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from .export import is_known, takes_operators, tensor_of

Shapes = Sequence[tuple[int, int]]


def split_levels(tokens: Tensor, shapes: Shapes) -> list[Tensor]:
    """Maps ``(N, C, h, w)`` of each level of the tokens ``(N, S, C)``, as views."""
    levels = tokens.split([h * w for h, w in shapes], dim=1)
    # (N, h w, C) -> (N, C, h, w)
    return [
        level.unflatten(1, shape).permute(0, 3, 1, 2)
        for level, shape in zip(levels, shapes, strict=True)
    ]


def join_levels(maps: Sequence[Tensor]) -> Tensor:
    """Tokens ``(N, S, C)`` of maps ``(N, C, h, w)``."""
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)


def reference_points(shapes: Shapes, device: torch.device) -> Tensor:
    """Centres of all pixels of all levels, ``(S, 2)`` as x, y in [0, 1], float32."""
    points = []
    for h, w in shapes:
        y = (torch.arange(h, device=device, dtype=torch.float32) + 0.5) / h
        x = (torch.arange(w, device=device, dtype=torch.float32) + 0.5) / w
        grid = torch.meshgrid(x, y, indexing='xy')
        points.append(torch.stack(grid, dim=-1).flatten(0, 1))  # (h, w, 2) -> (h w, 2)
    return torch.cat(points)


def level_sizes(shapes: Shapes, device: torch.device) -> Tensor:
    """Width and height of each level, ``(levels, 2)``, float32; not to be written to.

    They are kept for the last sizes: to bring numbers to a GPU each time would stop it each time,
    and no CUDA graph may do so.
    """
    sides = tuple(side for h, w in shapes for side in (w, h))
    # A compiler, or a mode that stands for another device, has to see how a tensor is made.
    is_seen = torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None
    if is_seen or not is_known(*sides):
        return tensor_of(sides, device=device, dtype=torch.float32).view(-1, 2)
    return _kept_sizes(sides, device)


@lru_cache(maxsize=1024)
def _kept_sizes(sides: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # for trainings too
        return torch.tensor(sides, device=device, dtype=torch.float32).view(-1, 2)


def resize_map(level: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a map ``(N, C, h, w)`` bilinearly; of the same size it stays as it is."""
    if is_known(*size) and tuple(level.shape[2:]) == size:
        return level
    if level.device.type == 'cpu' and takes_operators():
        # A graph would gather pixel by pixel, and scatter the gradients, which takes far longer.
        rows, columns = (
            _bilinear_matrix(old, new, level)
            for old, new in zip(level.shape[2:], size, strict=True)
        )
        out = level.permute(0, 2, 3, 1).flatten(2)  # (N, h, w C)
        out = (rows @ out).unflatten(2, (level.shape[3], -1))
        return (columns @ out).permute(0, 3, 1, 2)
    return F.interpolate(level, size=size, mode='bilinear', align_corners=False)


def _bilinear_matrix(old: int, new: int, like: Tensor) -> Tensor:
    """Matrix ``(new, old)`` that resizes one side."""
    scale = old / torch.full((), new, device=like.device, dtype=torch.float32)
    place = ((torch.arange(new, device=like.device) + 0.5) * scale - 0.5).clamp(0, old - 1)
    source = torch.arange(old, device=like.device)
    return (1 - (place.unsqueeze(1) - source).abs()).clamp(min=0).to(like.dtype)


def resize_rows(level: Tensor, factor: int, first: int, last: int) -> Tensor:
    """What rows ``first`` to ``last`` of a map become when it is enlarged so many times."""
    # What is made of a row depends on its neighbours.
    low, high = max(first - 1, 0), min(last + 1, level.shape[2])
    out = resize_map(level[:, :, low:high], ((high - low) * factor, level.shape[3] * factor))
    return out[:, :, (first - low) * factor : (last - low) * factor]
