"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159) without a compiled op.

Every query samples a few points of every level of a token pyramid and sums them with weights. Three
forms of that sum give equal outputs and gradients:

``embedding_bag``
    A bilinear sample is a weighted sum of four rows of the value matrix, and so is all that a head
    returns for a query: one ``embedding_bag`` over those rows. The fastest form on a CPU.
``mmcv``
    mmcv's compiled operator, in float32 and float16.
``grid_sample``
    A ``grid_sample`` for each level: slow, but every export format has it.
"""

import math
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .pyramid import Shapes


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
        backend: ``'embedding_bag'``, ``'mmcv'``, ``'grid_sample'``, or ``'auto'``: mmcv's operator
            on a GPU where it is installed and has the dtype, else the embedding bag.

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
    return BACKENDS[backend](value, shapes, locations, weights)


def _choose_backend(value: Tensor) -> str:
    # mmcv's CUDA operator has no bfloat16 kernel.
    native = value.is_cuda and value.dtype in (torch.float32, torch.float16)
    return 'mmcv' if native and _mmcv_op() is not None else 'embedding_bag'


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
    sizes = torch.tensor(shapes, device=value.device)
    starts = sizes.prod(1).cumsum(0) - sizes.prod(1)
    locations, weights = locations.to(value.dtype), weights.to(value.dtype)
    return op(value.contiguous(), sizes, starts, locations, weights, 64)


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


def _sample_embedding_bag(
    value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor
) -> Tensor:
    return _EmbeddingBagSampling.apply(value, tuple(shapes), locations.float(), weights.float())


class _EmbeddingBagSampling(torch.autograd.Function):
    """The embedding bag with a backward pass of its own.

    It keeps the inputs alone and finds the corners again, and it sums the gradient of the values by
    another embedding bag, over the transposed matrix: autograd's own is several times slower.
    """

    @staticmethod
    def forward(ctx, value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(value, locations, weights)
        ctx.shapes = shapes
        n, _, heads, dims = value.shape
        corners = _Corners(value, shapes, locations)
        out = F.embedding_bag(
            corners.rows,
            value.reshape(-1, dims),
            mode='sum',
            per_sample_weights=corners.combine(weights).to(value.dtype),
        )
        return out.view(n, locations.shape[1], heads * dims)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, locations, weights = ctx.saved_tensors
        table = value.reshape(-1, value.shape[-1])
        grad = grad.reshape(-1, value.shape[-1]).to(value.dtype)  # (N Q heads, D)
        corners = _Corners(value, ctx.shapes, locations)
        grad_value = grad_locations = grad_weights = None
        if ctx.needs_input_grad[0]:
            combined = corners.combine(weights).to(value.dtype)
            grad_value = _transposed_bag(corners.rows, combined, grad, len(table))
            grad_value = grad_value.view_as(value)
        if ctx.needs_input_grad[2] or ctx.needs_input_grad[3]:
            products = _row_products(corners.rows, table, grad).float()
            grad_locations, grad_weights = corners.gradients(products, weights)
        return grad_value, None, grad_locations, grad_weights


class _Corners:
    """The four pixels around each sampling point.

    Attributes:
        rows: their rows in the matrix ``(N * S * heads, D)`` of values, ``(N * Q * heads,
            levels * points * 4)``.
    """

    def __init__(self, value: Tensor, shapes: Shapes, locations: Tensor):
        n, tokens, heads, _ = value.shape
        device = value.device
        size = torch.tensor([(w, h) for h, w in shapes], device=device).float()
        self.width, self.height = size[:, :1], size[:, 1:]  # (levels, 1)
        area = (self.width * self.height).flatten()
        first = (area.cumsum(0) - area).unsqueeze(1)  # a level's first token

        x, y = (locations * size.unsqueeze(1) - 0.5).unbind(-1)  # (N, Q, heads, levels, points)
        columns, self.column_weights, self.column_inside = _neighbours(x, self.width)
        rows, self.row_weights, self.row_inside = _neighbours(y, self.height)
        token = torch.stack([r * self.width + first + c for r in rows for c in columns], dim=-1)
        image = torch.arange(n, device=device).view(n, 1, 1, 1, 1, 1)
        head = torch.arange(heads, device=device).view(heads, 1, 1, 1)
        index = (token.long() + image * tokens) * heads + head
        self.shape = index.shape
        self.rows = index.flatten(0, 2).flatten(1)

    def combine(self, weights: Tensor) -> Tensor:
        """Weights of all corners in the sum, of the shape of ``rows``."""
        rows = [row * weights for row in self.row_weights]
        combined = torch.stack([row * c for row in rows for c in self.column_weights], dim=-1)
        return combined.view(self.rows.shape)

    def gradients(self, grad: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of locations and weights, from that of the combined weights."""
        top_left, top_right, bottom_left, bottom_right = grad.view(self.shape).unbind(-1)
        left, right = self.column_weights
        top = top_left * left + top_right * right
        bottom = bottom_left * left + bottom_right * right
        grad_weights = top * self.row_weights[0] + bottom * self.row_weights[1]

        # A corner's weight grows towards it by one a pixel.
        above, below = self.row_inside
        grad_y = (bottom * below - top * above) * weights * self.height
        before, after = self.column_inside
        left = top_left * self.row_weights[0] + bottom_left * self.row_weights[1]
        right = top_right * self.row_weights[0] + bottom_right * self.row_weights[1]
        grad_x = (right * after - left * before) * weights * self.width
        return torch.stack((grad_x, grad_y), dim=-1), grad_weights


def _neighbours(x: Tensor, size: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The pixels before and after coordinates x.

    Returns:
        The two pixels, moved inside; their linear weights, 0 outside; whether they are inside.
    """
    low = x.floor()
    pixels, weights, insides = [], [], []
    for pixel, weight in ((low, low + 1 - x), (low + 1, x - low)):
        inside = (pixel >= 0) & (pixel < size)
        pixels.append(torch.minimum(pixel.clamp(min=0), size - 1))
        weights.append(weight * inside)
        insides.append(inside)
    return pixels, weights, insides


def _transposed_bag(rows: Tensor, weights: Tensor, grad: Tensor, count: int) -> Tensor:
    """Gradient ``(count, D)`` of the matrix that an embedding bag summed rows of."""
    order = rows.flatten().argsort()
    bags = order // rows.shape[1]
    row = torch.arange(count, device=rows.device)
    starts = torch.searchsorted(rows.flatten()[order], row)
    return F.embedding_bag(
        bags, grad, starts, mode='sum', per_sample_weights=weights.flatten()[order]
    )


def _row_products(rows: Tensor, table: Tensor, grad: Tensor) -> Tensor:
    """Products of each bag's gradient with each of its rows, of the shape of ``rows``."""
    bags, length = rows.shape
    starts = torch.arange(0, bags * length, length, device=rows.device)
    bag = torch.arange(bags, device=rows.device).repeat_interleave(length)
    products = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        grad, table, rows.flatten(), starts, bag, 0, -1
    )
    return products.view(bags, length)


BACKENDS: dict[str, Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]] = {
    'embedding_bag': _sample_embedding_bag,
    'mmcv': _sample_mmcv,
    'grid_sample': _sample_grid,
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
        n, queries, _ = query.shape
        sampled = (n, queries, self.num_heads, self.num_levels, self.num_points)
        value = self.value_proj(tokens).unflatten(-1, (self.num_heads, -1))
        offsets = self.sampling_offsets(query).float().view(*sampled, 2)
        weights = self.attention_weights(query).view(n, queries, self.num_heads, -1).softmax(-1)
        # Offsets are in pixels of each level.
        size = torch.tensor([(w, h) for h, w in shapes], device=query.device).float()
        locations = points.view(-1, 1, 1, 1, 2) + offsets / size.unsqueeze(1)
        out = deformable_attention(value, shapes, locations, weights.view(sampled), self.backend)
        return self.output_proj(out)
