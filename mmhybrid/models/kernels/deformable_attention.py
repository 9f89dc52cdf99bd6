"""Deformable attention: bilinear samples of a token pyramid, by the fastest backend at hand.

The sum over all points that a query samples, arXiv 2010.04159, in one of these forms:

``embedding_bag``
    One ``embedding_bag`` over a table's rows: the fastest form on a CPU, see ``deformable_bags``.
``triton``
    Triton kernels for CUDA devices, in float32, float16 and bfloat16, see ``deformable_triton``.
``mmcv``
    mmcv's compiled operator, in float32 and float16.
``grid_sample``
    A ``grid_sample`` for each level: slow, but every export format has it.
``gather``
    Index arithmetic and one gather of rows for each of the four pixels around a point: for runtimes
    whose ``GridSample`` is missing or wrong.
"""

import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .deformable_bags import sample_in_bags
from .graphs import is_transformed
from .pyramid import Shapes, level_sizes


def deformable_attention(
    value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor, backend: str = 'auto'
) -> Tensor:
    """Sum bilinear samples of a token pyramid at given locations.

    Args:
        value: ``(N, S, heads, D)``, the pyramid's tokens.
        shapes: ``(h, w)`` of each level; S tokens in all.
        locations: ``(N, Q, heads, levels, points, 2)``, x and y in [0, 1] over each level; what
            lies outside counts as zero.
        weights: ``(N, Q, heads, levels, points)``.
        backend: ``'embedding_bag'``, ``'triton'``, ``'mmcv'``, ``'grid_sample'``, ``'gather'``, or
            ``'auto'``: on a GPU Triton's kernels or else mmcv's operator, where they are installed
            and have the dtype, and the embedding bag elsewhere; while a model is exported,
            ``'grid_sample'``.

    Returns:
        ``(N, Q, heads * D)``, of the value's dtype.

    Raises:
        ValueError: tokens that are not those of the shapes, or an unknown backend.
    """
    sizes = level_sizes(shapes, locations.device).unsqueeze(1)  # (levels, 1, 2)
    origin = locations.new_zeros(locations.shape[1], 2, dtype=torch.float32)
    return sample_around(value, shapes, origin, locations * sizes, weights, backend)


def sample_around(
    value: Tensor,
    shapes: Shapes,
    points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    backend: str = 'auto',
) -> Tensor:
    """Sum bilinear samples of a token pyramid around reference points.

    Args:
        points: ``(Q, 2)``, x and y in [0, 1] over every level; they get no gradient.
        offsets: ``(N, Q, heads, levels, points, 2)``, x and y in pixels of each level.
        value, shapes, weights, backend: as of :func:`deformable_attention`.

    Returns:
        ``(N, Q, heads * D)``, of the value's dtype.
    """
    tokens = sum(h * w for h, w in shapes)
    if value.shape[1] != tokens:
        raise ValueError(
            f'value has {value.shape[1]} tokens, but the levels {tuple(shapes)} have {tokens}'
        )
    if backend == 'auto':
        backend = _choose_backend(value)
    if backend not in BACKENDS:
        raise ValueError(
            f"unknown backend {backend!r} of deformable attention; use 'auto' or one of "
            f'{tuple(BACKENDS)}'
        )
    if backend == 'embedding_bag':
        return sample_in_bags(value, shapes, points, offsets, weights)
    sizes = level_sizes(shapes, offsets.device).unsqueeze(1)  # (levels, 1, 2)
    # Expanded, as exported files broadcast slowly over pairs: (N, Q, heads, levels, points, 2)
    sizes, points = sizes.expand(offsets.shape[2:]), points.view(-1, 1, 1, 1, 2)
    locations = points.expand(offsets.shape[1:]) + offsets / sizes
    return BACKENDS[backend](value, shapes, locations, weights)


def _choose_backend(value: Tensor) -> str:
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return 'grid_sample'
    if is_transformed():
        return 'gather'
    # Both operators for GPUs add gradients up in any order.
    if not value.is_cuda or torch.are_deterministic_algorithms_enabled():
        return 'embedding_bag'
    # Triton compiles for compute capability 8.0 and later; mmcv has no bfloat16 kernel.
    kernels = triton_kernels()
    if kernels is not None and value.dtype in kernels.DTYPES:
        if torch.cuda.get_device_capability(value.device) >= (8, 0):
            return 'triton'
    native = value.dtype in (torch.float32, torch.float16) and _mmcv_op() is not None
    return 'mmcv' if native else 'embedding_bag'


@cache
def triton_kernels() -> ModuleType | None:
    """Import the module of Triton kernels; None where there is no Triton that it can use."""
    try:
        from . import deformable_triton
    except Exception:  # absent, or of another torch: any error at import means no
        return None
    return deformable_triton


def _sample_triton(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    kernels = triton_kernels()
    if (
        kernels is None
        or not (value.is_cuda or kernels.INTERPRETED)
        or value.dtype not in kernels.DTYPES
    ):
        raise RuntimeError(
            f"backend='triton' needs Triton and a CUDA tensor of float32, float16 or bfloat16, got "
            f"{value.dtype} on {value.device}; use backend='auto'"
        )
    return kernels.deformable_sample(value, shapes, locations.float(), weights.float())


@cache
def _mmcv_op() -> Callable | None:
    try:
        from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction
    except Exception:  # absent, or compiled for another torch: any error at import means no
        return None
    if sys.modules['mmcv._ext'].__name__ != 'mmcv._ext':  # mmhybrid.ops, which calls this module
        return None
    return MultiScaleDeformableAttnFunction.apply


def _sample_mmcv(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    op = _mmcv_op()
    if op is None or not value.is_cuda:
        raise RuntimeError(
            f"backend='mmcv' needs mmcv with its compiled operators and a CUDA tensor, got one on "
            f"{value.device}; use backend='auto', or see python -m mmhybrid.doctor"
        )
    sizes = level_sizes(shapes, value.device).flip(1).long()  # (levels, 2), height and width
    starts = sizes.prod(1).cumsum(0) - sizes.prod(1)
    inputs = (tensor.to(value.dtype).contiguous() for tensor in (locations, weights))
    # All images in one step: in more, the operator takes multiples of the step alone.
    return op(value.contiguous(), sizes, starts, *inputs, max(len(value), 1))


def _sample_grid(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    n, _, heads, dims = value.shape
    queries = locations.shape[1]
    levels = value.split([h * w for h, w in shapes], dim=1)
    # Queries lie innermost: runtimes sum over points several times as fast as where those do.
    # (N, Q, heads, levels, points, 2) -> (levels, N heads, points, Q, 2)
    grids = (2 * locations - 1).to(value.dtype).permute(3, 0, 2, 4, 1, 5).flatten(1, 2)
    # (N, Q, heads, levels, points) -> (levels, N heads, points, Q)
    weights = weights.to(value.dtype).permute(3, 0, 2, 4, 1).flatten(1, 2)
    out: Any = 0
    for i, (level, (h, w)) in enumerate(zip(levels, shapes, strict=True)):
        # (N, h w, heads, D) -> (N heads, D, h, w)
        maps = level.permute(0, 2, 3, 1).reshape(n * heads, dims, h, w)
        samples = F.grid_sample(maps, grids[i], align_corners=False)  # (N heads, D, points, Q)
        out = out + (samples * weights[i].unsqueeze(1)).sum(2)
    out = out.view(n, heads * dims, queries)  # (N heads, D, Q) -> (N, heads D, Q)
    return out.transpose(1, 2)  # (N, heads D, Q) -> (N, Q, heads D)


def _sample_gather(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    n, tokens, heads, _ = value.shape
    sizes = level_sizes(shapes, value.device)  # (levels, 2), x and y
    position = locations.float() * sizes.unsqueeze(1) - 0.5
    low_x, low_y = position.floor().unbind(-1)  # (N, Q, heads, levels, points), as all that follow
    fraction_x, fraction_y = (position - position.floor()).unbind(-1)
    width, height = sizes.long().unsqueeze(-1).unbind(1)  # (levels, 1)
    area = width * height
    image = torch.arange(n, device=value.device).view(-1, 1, 1, 1, 1) * tokens  # (N, 1, 1, 1, 1)
    first = image + (area.cumsum(0) - area)
    head = torch.arange(heads, device=value.device).view(-1, 1, 1)  # (heads, 1, 1)

    table = value.flatten(0, 2)  # (N, S, heads, D) -> (N S heads, D)
    out: Any = 0
    for near_x, x in ((1 - fraction_x, low_x.long()), (fraction_x, low_x.long() + 1)):
        for near_y, y in ((1 - fraction_y, low_y.long()), (fraction_y, low_y.long() + 1)):
            column, row = x.clamp(min=0).minimum(width - 1), y.clamp(min=0).minimum(height - 1)
            is_inside = (column == x) & (row == y)
            entry = (first + row * width + column) * heads + head
            weight = (weights.float() * near_x * near_y * is_inside).to(value.dtype)
            # (N, Q, heads, 1, samples) @ (N, Q, heads, samples, D)
            out = out + weight.flatten(3).unsqueeze(3) @ table[entry.flatten(3)]
    return out.flatten(2)  # (N, Q, heads, 1, D) -> (N, Q, heads D)


BACKENDS: dict[str, Callable[..., Tensor]] = {
    'embedding_bag': sample_in_bags,
    'triton': _sample_triton,
    'mmcv': _sample_mmcv,
    'grid_sample': _sample_grid,
    'gather': _sample_gather,
}
