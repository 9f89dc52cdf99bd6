"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159) without a compiled op.

Every query samples a few points of every level of a token pyramid and sums them with weights. Five
forms of that sum give equal outputs and gradients:

``embedding_bag``
    A bilinear sample is a weighted sum of four rows of the value matrix, and so is all that a head
    returns for a query: one ``embedding_bag`` over those rows. The fastest form on a CPU.
``triton``
    Triton kernels for CUDA devices, in float32, float16 and bfloat16: ``deformable_triton``.
``mmcv``
    mmcv's compiled operator, in float32 and float16.
``grid_sample``
    A ``grid_sample`` for each level: slow, but every export format has it.
``gather``
    Index arithmetic and one gather of rows for each of the four pixels around a point: for runtimes
    whose ``GridSample`` is missing or wrong.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import can_block, is_counting
from .deformable_bags import Sampler, prepare_bags, read_into_bags, sample_in_bags
from .export import is_exporting
from .lean_linear import lean_linear
from .linear import fast_linear, run_linear
from .plain import is_plain
from .pyramid import Shapes, level_sizes

HAS_TRITON = find_spec('triton') is not None


def deformable_attention(
    value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor, backend: str = 'auto'
) -> Tensor:
    """Sum of bilinear samples of a token pyramid.

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
    """
    return deformable_sampler(value, shapes, backend)(locations, weights)


def deformable_sampler(value: Tensor, shapes: Shapes, backend: str = 'auto') -> Sampler:
    """:func:`deformable_attention` of one value, as a function of locations and weights."""
    _check_tokens(value, shapes)
    if backend == 'auto':
        backend = _choose_backend(value)
    if backend not in BACKENDS:
        raise ValueError(
            f"unknown backend {backend!r} of deformable attention; use 'auto' or one of "
            f'{tuple(BACKENDS)}'
        )
    if backend in ('triton', 'mmcv') and is_counting():
        backend = 'embedding_bag'  # which does as many multiply-adds
    if backend == 'embedding_bag' and can_block(value):
        return prepare_bags(value, shapes)
    return partial(BACKENDS[backend], value, shapes)


def _check_tokens(value: Tensor, shapes: Shapes) -> None:
    tokens = sum(h * w for h, w in shapes)
    if value.shape[1] != tokens:
        raise ValueError(
            f'value has {value.shape[1]} tokens, but the levels {tuple(shapes)} have {tokens}'
        )


def _choose_backend(value: Tensor) -> str:
    if is_exporting() or torch.jit.is_tracing():
        return 'grid_sample'
    # Both operators for GPUs add gradients up in any order.
    if not value.is_cuda or torch.are_deterministic_algorithms_enabled():
        return 'embedding_bag'
    # Triton compiles for compute capability 8.0 and later; mmcv has no bfloat16 kernel.
    kernels = _triton_kernels()
    if kernels is not None and value.dtype in kernels.DTYPES:
        if torch.cuda.get_device_capability(value.device) >= (8, 0):
            return 'triton'
    native = value.dtype in (torch.float32, torch.float16) and _mmcv_op() is not None
    return 'mmcv' if native else 'embedding_bag'


@cache
def _triton_kernels() -> ModuleType | None:
    if not HAS_TRITON:
        return None
    try:
        from . import deformable_triton
    except Exception:  # of another torch: any error at import means no
        return None
    return deformable_triton


def _sample_triton(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    kernels = _triton_kernels()
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
    queries, points = locations.shape[1], locations.shape[4]
    levels = value.split([h * w for h, w in shapes], dim=1)
    grids = (2 * locations - 1).to(value.dtype).transpose(1, 2).flatten(0, 1)
    samples = []
    for i, (level, (h, w)) in enumerate(zip(levels, shapes, strict=True)):
        # (N, h w, heads, D) -> (N heads, D, h, w)
        maps = level.permute(0, 2, 3, 1).reshape(n * heads, dims, h, w)
        samples.append(F.grid_sample(maps, grids[:, :, i], align_corners=False))
    samples = torch.stack(samples, dim=3)  # (N heads, D, Q, levels, points)
    # (N, Q, heads, levels, points) -> (N heads, 1, Q, levels, points)
    weights = weights.to(value.dtype).transpose(1, 2)
    weights = weights.reshape(n * heads, 1, queries, len(shapes), points)
    out = (samples * weights).sum((3, 4)).view(n, heads * dims, queries)
    return out.transpose(1, 2)  # (N, heads D, Q) -> (N, Q, heads D)


def _sample_gather(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    n, tokens, heads, _ = value.shape
    sizes = level_sizes(shapes, value.device)  # (levels, 2), x and y
    position = locations.float() * sizes.unsqueeze(1) - 0.5
    low_x, low_y = position.floor().unbind(-1)  # (N, Q, heads, levels, points), as all that follow
    fraction_x, fraction_y = (position - position.floor()).unbind(-1)
    width, height = sizes.long().unsqueeze(-1).unbind(1)  # (levels, 1)
    area = width * height
    image = torch.arange(n, device=value.device).view(-1, 1, 1, 1, 1) * tokens
    first = image + (area.cumsum(0) - area)
    head = torch.arange(heads, device=value.device).view(-1, 1, 1)

    table = value.flatten(0, 2)  # (N S heads, D)
    out = 0
    for near_x, x in ((1 - fraction_x, low_x.long()), (fraction_x, low_x.long() + 1)):
        for near_y, y in ((1 - fraction_y, low_y.long()), (fraction_y, low_y.long() + 1)):
            column, row = x.clamp(min=0).minimum(width - 1), y.clamp(min=0).minimum(height - 1)
            is_inside = (column == x) & (row == y)
            entry = (first + row * width + column) * heads + head
            weight = (weights.float() * near_x * near_y * is_inside).to(value.dtype)
            # (N, Q, heads, 1, samples) @ (N, Q, heads, samples, D)
            out = out + weight.flatten(3).unsqueeze(3) @ table[entry.flatten(3)]
    return out.flatten(2)  # (N, Q, heads, 1, D) -> (N, Q, heads D)


BACKENDS: dict[str, Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]] = {
    'embedding_bag': sample_in_bags,
    'triton': _sample_triton,
    'mmcv': _sample_mmcv,
    'grid_sample': _sample_grid,
    'gather': _sample_gather,
}


class MSDeformAttention(nn.Module):
    """Multi-scale deformable attention with its projections.

    Args:
        embed_dims: C.
        num_heads: must divide ``C * value_ratio``.
        num_levels: levels of the pyramid that is sampled.
        num_points: points a head samples in each level.
        value_ratio: width of the values over C.
        backend: see :func:`deformable_attention`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        *,
        num_levels: int,
        num_points: int = 4,
        value_ratio: float = 1.0,
        backend: str = 'auto',
    ):
        super().__init__()
        value_dims = int(embed_dims * value_ratio)
        if value_dims % num_heads:
            raise ValueError(
                f'{num_heads} heads of deformable attention do not divide its width {value_dims} '
                f'(= {embed_dims} * {value_ratio})'
            )
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        self.backend = backend
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dims, samples * 2)
        self.attention_weights = nn.Linear(embed_dims, samples)
        self.value_proj = nn.Linear(embed_dims, value_dims)
        self.output_proj = nn.Linear(value_dims, embed_dims)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Heads look in directions spread over the circle, their points 1, 2, ... pixels away."""
        for linear in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
        direction /= direction.abs().amax(dim=-1, keepdim=True)
        distance = torch.arange(1, self.num_points + 1).view(-1, 1)
        offsets = direction.view(-1, 1, 1, 2) * distance  # (heads, 1, points, 2)
        offsets = offsets.expand(-1, self.num_levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())

    def forward(self, query: Tensor, points: Tensor, tokens: Tensor, shapes: Shapes) -> Tensor:
        """Attend.

        Args:
            query: ``(N, Q, C)``.
            points: reference points ``(Q, 2)``, x and y in [0, 1].
            tokens: pyramid to sample, ``(N, S, C)``.
            shapes: ``(h, w)`` of each of its levels.
        """
        sample = self.sampler(tokens, shapes)
        return run_linear(
            self.output_proj, sample(*self.look(query, points, self.projector(shapes)))
        )

    def projector(self, shapes: Shapes) -> Callable[[Tensor], Tensor]:
        """A function from queries ``(N, Q, C)`` to ``(N, Q, 3 * samples)``, for :meth:`look`.

        It gives x and y of all samples, as parts of their levels, and their logits.
        """
        layers = (self.sampling_offsets, self.attention_weights)
        if all(is_plain(layer, nn.Linear) for layer in layers):  # one matrix product
            size = level_sizes(shapes, self.sampling_offsets.weight.device)
            weight = self._join(*(layer.weight for layer in layers), size)
            bias = self._join(*(layer.bias for layer in layers), size)
            return lambda query: fast_linear(query, weight, bias)

        def project(query: Tensor) -> Tensor:
            size = level_sizes(shapes, query.device)
            parts = (layer(query).movedim(-1, 0) for layer in layers)
            return self._join(*parts, size).movedim(0, -1)

        return project

    def _join(self, offsets: Tensor, logits: Tensor, size: Tensor) -> Tensor:
        """``(3 * samples, ...)``: all x, all y, logits; offsets were in pixels of each level."""
        size = size.view(1, self.num_levels, 1, 2, 1)
        offsets = offsets.reshape(self.num_heads, self.num_levels, self.num_points, 2, -1)
        offsets = (offsets / size).movedim(3, 0).reshape(2 * len(logits), *logits.shape[1:])
        return torch.cat((offsets.to(logits.dtype), logits))

    def look(
        self, query: Tensor, points: Tensor, project: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Where and how much each query samples: locations and weights for :meth:`sampler`."""
        samples = (self.num_heads, self.num_levels, self.num_points)
        # x, y and weights of all samples are planes of the projection, which keeps the arithmetic
        # that follows vectorised.
        planes = project(query).unflatten(-1, (3, -1))  # (N, Q, 3, samples)
        offsets, logits = planes.split((2, 1), dim=2)
        locations = points.unsqueeze(-1) + offsets.float()  # (Q, 2, 1) + (N, Q, 2, samples)
        # (N, Q, 2, samples) -> (N, Q, heads, levels, points, 2)
        locations = locations.unflatten(3, samples).movedim(2, -1)
        weights = _softmax(logits.reshape(-1, self.num_heads, self.num_levels * self.num_points))
        return locations, weights.view(*query.shape[:2], *samples)

    def sampler(
        self, tokens: Tensor, shapes: Shapes, *norms: Callable[[Tensor], Tensor]
    ) -> Sampler:
        """A function from locations and weights to the samples, for ``output_proj``.

        Args:
            tokens: pyramid to sample, ``(N, S, C)``.
            shapes: ``(h, w)`` of each level.
            norms: come before ``value_proj``, one after the other, of each token alone.
        """

        def read(tokens: Tensor) -> Tensor:
            return lean_linear(self.value_proj, tokens, *norms)

        _check_tokens(tokens, shapes)
        if self.backend in ('auto', 'embedding_bag') and can_block(tokens):
            return read_into_bags(read, tokens, self.num_heads, shapes)
        value = read(tokens).unflatten(2, (self.num_heads, -1))
        return deformable_sampler(value, shapes, self.backend)


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the last dimension, which is short: a slow case of torch's own on CPUs."""
    if logits.device.type != 'cpu' or torch.compiler.is_compiling():
        return logits.softmax(-1)
    logits = logits.movedim(0, 2).contiguous()  # (N Q, heads, samples) -> (heads, samples, N Q)
    return logits.softmax(1).movedim(2, 0).contiguous()
