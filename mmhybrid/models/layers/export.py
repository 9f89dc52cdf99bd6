"""What layers need to be compiled, or exported by ``torch.export``, for images of any size."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def is_exporting() -> bool:
    """Whether a model is being exported just now; never so in a torch that cannot tell."""
    return hasattr(torch.compiler, 'is_exporting') and torch.compiler.is_exporting()


def takes_operators() -> bool:
    """Whether a graph is being made that may hold operators of our own: not by an exporter."""
    return torch.compiler.is_compiling() and not is_exporting()


def is_known(*sizes: int) -> bool:
    """Whether sizes are numbers; in a graph for images of any size they are symbols."""
    if torch.compiler.is_compiling():  # there, symbols pass for int
        from torch.fx.experimental.symbolic_shapes import has_static_value

        return all(has_static_value(size) for size in sizes)
    return all(isinstance(size, int) for size in sizes)


def tensor_of(values: Sequence[float], repeat: int = 1, **options) -> Tensor:
    """``torch.tensor(values, **options)``, which leaves symbols among the values as they are.

    Args:
        repeat: how many times each value comes, one after another.
    """
    if is_known(*values):
        return torch.tensor([value for value in values for _ in range(repeat)], **options)
    return torch.stack([torch.full((), value, **options) for value in values]).repeat_interleave(
        repeat
    )


def pad_to_multiple(size: int, multiple: int) -> int:
    """How much makes ``size`` a multiple, in the form that exporters can reason about."""
    return (size + multiple - 1) // multiple * multiple - size


def first_rows(tensor: Tensor, dim: int, count: int) -> Tensor:
    """The first ``count`` rows along a dimension.

    Of a part of a tensor torch's compiler asks whether it is contiguous. Where sizes are symbols,
    the answer would bind the graph to images like this one: there the rows are collected.
    """
    if is_known(count, tensor.shape[dim]) or not takes_operators():
        return tensor.narrow(dim, 0, count)
    return tensor.index_select(dim, torch.arange(count, device=tensor.device))


def resize_bicubic(
    maps: Tensor, size: tuple[int, int], *, offset: float = 0.0, antialias: bool = False
) -> Tensor:
    """``F.interpolate(mode='bicubic')`` of maps ``(N, C, h, w)``.

    A graph would bake the scale in, and exporters have no low-pass filter: with either, compiled
    and exported code gets two matrix products instead. So does a GPU where algorithms have to be
    deterministic: torch has no such gradient of a bicubic resizing.

    Args:
        offset: the scale is ``(size + offset) / (h, w)``, which places the samples slightly
            differently; callers leave out what needs no resizing.
        antialias: low-pass filter when shrinking.
    """
    h, w = maps.shape[2:]
    is_deterministic = maps.is_cuda and torch.are_deterministic_algorithms_enabled()
    if is_deterministic or torch.compiler.is_compiling() and (offset or antialias):
        return resize_by_matrices(maps, size, offset, antialias)
    if not offset:
        return F.interpolate(maps, size=size, mode='bicubic', antialias=antialias)
    scale = ((size[0] + offset) / h, (size[1] + offset) / w)
    return F.interpolate(maps, scale_factor=scale, mode='bicubic', antialias=antialias)


def resize_by_matrices(
    maps: Tensor, size: tuple[int, int], offset: float, antialias: bool
) -> Tensor:
    """The same as two matrix products."""
    h, w = maps.shape[2:]
    new = [torch.full((), side, device=maps.device, dtype=maps.dtype) for side in size]
    if offset:  # of the same size maps stay as they are
        offset = offset * ((new[0] != h) | (new[1] != w))
    rows = _bicubic_matrix(h, size[0], h / (new[0] + offset), antialias, maps)
    columns = _bicubic_matrix(w, size[1], w / (new[1] + offset), antialias, maps)
    return rows @ maps @ columns.T


def _bicubic_matrix(old: int, new: int, scale: Tensor, antialias: bool, like: Tensor) -> Tensor:
    """Matrix ``(new, old)`` that resizes one side; ``scale`` is that of old to new."""
    options = dict(device=like.device, dtype=like.dtype)
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
    """The cubic convolution kernel (Keys, 1981)."""
    x = x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
