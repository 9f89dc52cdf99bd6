"""A token pyramid: the maps of several levels as one sequence of tokens.

Tokens ``(N, S, C)`` hold the levels one after another, fine to coarse, each row by row. A level
seen as a map is a channels-last view of its tokens, so going back and forth around a convolution
moves no memory that the convolution would not have moved anyway.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from .graphs import is_known

Grid = tuple[int, int]
Shapes = Sequence[Grid]


def split_levels(tokens: Tensor, shapes: Shapes) -> list[Tensor]:
    """Split tokens ``(N, S, C)`` into the map ``(N, C, h, w)`` of each level, as views."""
    levels = tokens.split([h * w for h, w in shapes], dim=1)
    # (N, h w, C) -> (N, C, h, w)
    return [
        level.unflatten(1, shape).permute(0, 3, 1, 2)
        for level, shape in zip(levels, shapes, strict=True)
    ]


def join_levels(maps: Sequence[Tensor]) -> Tensor:
    """Join maps ``(N, C, h, w)`` to tokens ``(N, S, C)``."""
    # (N, C, h, w) -> (N, h w, C)
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)


def reference_points(shapes: Shapes, device: torch.device) -> Tensor:
    """Compute the centres of all levels' pixels, ``(S, 2)`` as x, y in [0, 1], float32."""
    points = []
    for h, w in shapes:
        y = (torch.arange(h, device=device, dtype=torch.float32) + 0.5) / h
        x = (torch.arange(w, device=device, dtype=torch.float32) + 0.5) / w
        grid = torch.meshgrid(x, y, indexing='xy')
        points.append(torch.stack(grid, dim=-1).flatten(0, 1))  # (h, w, 2) -> (h w, 2)
    return torch.cat(points)


def level_sizes(shapes: Shapes, device: torch.device) -> Tensor:
    """Return width and height of each level, ``(levels, 2)``, float32; never write to it.

    The last results are cached: copying numbers to a GPU makes it wait, which no CUDA graph may do.
    """
    sides = tuple(side for h, w in shapes for side in (w, h))
    # A compiler, or a mode that stands for another device, has to see how a tensor is made.
    if torch.compiler.is_compiling() or _is_fake() or not is_known(*sides):
        sizes = [torch.full((), side, device=device, dtype=torch.float32) for side in sides]
        return torch.stack(sizes).view(-1, 2)  # (2 levels) -> (levels, 2)
    return _kept_sizes(sides, device)


def _is_fake() -> bool:
    return any(isinstance(mode, FakeTensorMode) for mode in _get_current_dispatch_mode_stack())


@lru_cache(maxsize=1024)
def _kept_sizes(sides: tuple[int, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # for trainings too
        sizes = torch.tensor(sides, device=device, dtype=torch.float32)
        return sizes.view(-1, 2)  # (2 levels) -> (levels, 2)
