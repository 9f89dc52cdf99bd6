"""Resizing of maps, eager, compiled and exported."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .graphs import is_known, takes_operators


def resize_map(level: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a map ``(N, C, h, w)`` bilinearly; return one of the same size as it is."""
    if is_known(*size) and tuple(level.shape[2:]) == size:
        return level
    if level.device.type == 'cpu' and takes_operators():
        # A graph would gather pixel by pixel and scatter the gradients, which takes far longer.
        rows, columns = (
            _bilinear_matrix(old, new, level)
            for old, new in zip(level.shape[2:], size, strict=True)
        )
        out = level.permute(0, 2, 3, 1).flatten(2)  # (N, C, h, w) -> (N, h, w C)
        out = (rows @ out).unflatten(2, (level.shape[3], -1))  # (N, h', w C) -> (N, h', w, C)
        return (columns @ out).permute(0, 3, 1, 2)  # (N, h', w', C) -> (N, C, h', w')
    return F.interpolate(level, size=size, mode='bilinear', align_corners=False)


def _bilinear_matrix(old: int, new: int, like: Tensor) -> Tensor:
    """Return the matrix ``(new, old)`` that resizes one side."""
    scale = old / torch.full((), new, device=like.device, dtype=torch.float32)
    place = ((torch.arange(new, device=like.device) + 0.5) * scale - 0.5).clamp(0, old - 1)
    source = torch.arange(old, device=like.device)
    return (1 - (place.unsqueeze(1) - source).abs()).clamp(min=0).to(like.dtype)


def resize_bicubic(
    maps: Tensor, size: tuple[int, int], *, offset: float = 0.0, antialias: bool = False
) -> Tensor:
    """Resize maps ``(N, C, h, w)`` as ``F.interpolate(mode='bicubic')`` does.

    A graph would bake the scale in, and exporters have no low-pass filter: with either, compiled
    and exported code uses two matrix products instead. So does a GPU where algorithms have to be
    deterministic: torch has no deterministic gradient of a bicubic resizing.

    Args:
        offset: the scale is ``(size + offset) / (h, w)``, which places the samples slightly
            differently; callers leave out what needs no resizing.
        antialias: low-pass filter when shrinking.
    """
    h, w = maps.shape[2:]
    is_deterministic = maps.is_cuda and torch.are_deterministic_algorithms_enabled()
    is_exporting = torch.compiler.is_exporting()  # to torch it is a hundred slow operators
    if is_deterministic or is_exporting or torch.compiler.is_compiling() and (offset or antialias):
        return resize_by_matrices(maps, size, offset, antialias)
    if not offset:
        return F.interpolate(maps, size=size, mode='bicubic', antialias=antialias)
    scale = ((size[0] + offset) / h, (size[1] + offset) / w)
    return F.interpolate(maps, scale_factor=scale, mode='bicubic', antialias=antialias)


def resize_by_matrices(
    maps: Tensor, size: tuple[int, int], offset: float, antialias: bool
) -> Tensor:
    """Resize maps as :func:`resize_bicubic` does, by two matrix products."""
    h, w = maps.shape[2:]
    new = [torch.full((), side, device=maps.device, dtype=maps.dtype) for side in size]
    if offset:  # of the same size maps stay as they are
        offset = offset * ((new[0] != h) | (new[1] != w))
    rows = _bicubic_matrix(h, size[0], h / (new[0] + offset), antialias, maps)
    if is_known(w, size[1]) and size[1] == w:
        return rows @ maps
    columns = _bicubic_matrix(w, size[1], w / (new[1] + offset), antialias, maps)
    return rows @ maps @ columns.T


def _bicubic_matrix(old: int, new: int, scale: Tensor, antialias: bool, like: Tensor) -> Tensor:
    """Return the matrix ``(new, old)`` that resizes one side; ``scale`` is old over new."""
    options: dict = dict(device=like.device, dtype=like.dtype)
    centre = ((torch.arange(new, **options) + 0.5) * scale).unsqueeze(1)  # (new, 1)
    source = torch.arange(old, **options)
    if antialias:
        weights = _cubic((source + 0.5 - centre) / scale.clamp(min=1), -0.5)
        return weights / weights.sum(1, keepdim=True)
    low = (centre - 0.5).floor()
    fraction = centre - 0.5 - low
    taps = torch.tensor([-1.0, 0, 1, 2], **options)
    is_here = (low + taps).clamp(0, old - 1).unsqueeze(2) == source  # outside is the border
    return (_cubic(fraction - taps, -0.75).unsqueeze(2) * is_here).sum(1)


def _cubic(x: Tensor, a: float) -> Tensor:
    """Evaluate the cubic convolution kernel (Keys, 1981)."""
    x = x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
