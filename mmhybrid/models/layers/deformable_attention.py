"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159) without a compiled op.

Every query samples a few points of every level of a token pyramid and sums them with weights. Four
forms of that sum give equal outputs and gradients:

``embedding_bag``
    A bilinear sample is a weighted sum of four rows of the value matrix, and so is all that a head
    returns for a query: one ``embedding_bag`` over those rows. The fastest form on a CPU.
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
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .export import is_exporting
from .pyramid import Shapes, level_sizes


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
        backend: ``'embedding_bag'``, ``'mmcv'``, ``'grid_sample'``, ``'gather'``, or ``'auto'``:
            mmcv's operator on a GPU where it is installed and has the dtype, else the embedding
            bag; while a model is exported, ``'grid_sample'``.

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
    if is_exporting():
        return 'grid_sample'
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


def _sample_embedding_bag(
    value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor
) -> Tensor:
    return _EmbeddingBagSampling.apply(value, tuple(shapes), locations.float(), weights.float())


class _EmbeddingBagSampling(torch.autograd.Function):
    """An embedding bag for each of the four pixels around the points, and their backward pass.

    It keeps the inputs alone and finds the pixels again, and it sums the gradient of the values by
    embedding bags too, over the transposed matrix: autograd's own is several times slower.
    """

    @staticmethod
    def forward(ctx, value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(value, locations, weights)
        ctx.shapes = shapes
        n, _, heads, dims = value.shape
        pixels = _Pixels(shapes, locations)
        table = _add_border(value, shapes)
        out = sum(
            F.embedding_bag(rows, table, mode='sum', per_sample_weights=w.to(value.dtype))
            for rows, w in zip(pixels.rows(), pixels.weights(weights), strict=True)
        )
        return out.view(n, locations.shape[1], heads * dims)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, locations, weights = ctx.saved_tensors
        n, _, heads, dims = value.shape
        grad = grad.reshape(-1, dims).to(value.dtype)  # (N Q heads, D)
        pixels = _Pixels(ctx.shapes, locations)
        grad_value = grad_locations = grad_weights = None
        if ctx.needs_input_grad[0]:
            grad_value = _scatter(pixels, pixels.weights(weights), grad, n, heads)
        if ctx.needs_input_grad[2] or ctx.needs_input_grad[3]:
            table = _add_border(value, ctx.shapes)
            products = [_row_products(rows, table, grad) for rows in pixels.rows()]
            grad_locations, grad_weights = pixels.gradients(products, weights)
        return grad_value, None, grad_locations, grad_weights


class _Pixels:
    """The four pixels around each sampling point, in levels with a border of zeros.

    The border, one pixel wide, spares all tests of what is inside: a point far outside is moved to
    it, where only zeros are near. All tensors have the shape ``(N * Q, heads * levels * points)``,
    so that what is constant for a query is one row that all of them share.
    """

    def __init__(self, shapes: Shapes, locations: Tensor):
        n, queries, heads, levels, points, _ = locations.shape
        device = locations.device
        self.shapes = shapes
        self.bags = (n * queries * heads, levels * points)

        def per_query(values: list) -> Tensor:
            """A value of each level, repeated for all samples of a query."""
            values = torch.tensor(values, device=device)
            values = values.view(1, levels, 1, -1).expand(heads, levels, points, -1)
            return values.reshape(heads * levels * points, -1).squeeze(-1)

        self.size = per_query([(float(w), float(h)) for h, w in shapes])
        position = locations.reshape(n * queries, heads * levels * points, 2) * self.size - 0.5
        moved = torch.minimum(position.clamp(min=-1), self.size)
        self.is_inside = position == moved
        # Not a number becomes a valid pixel here, and stays not a number in the weights.
        low = torch.minimum(moved.floor().int(), self.size.int() - 1).clamp(min=-1)
        self.fraction_x, self.fraction_y = (moved - low).unbind(-1)

        # Rows of one pixel's heads lie together.
        areas = [(h + 2) * (w + 2) for h, w in shapes]
        first = per_query([sum(areas[:i]) + w + 3 for i, (_, w) in enumerate(shapes)])
        head = torch.arange(heads, device=device).repeat_interleave(levels * points)
        image = torch.arange(n, device=device).repeat_interleave(queries).unsqueeze(-1)
        x, y = low.unbind(-1)
        width = per_query([w + 2 for _, w in shapes])
        row = (first * heads + head).int() + x * heads
        row += y * (width * heads).int()
        row += (image * (sum(areas) * heads)).int()
        self.top_left = row
        self.right = heads
        self.below = (width * heads).int()

    def rows(self) -> list[Tensor]:
        """Numbers of the top left, top right, bottom left and bottom right pixels, int32.

        They count all images', levels', pixels' and heads' values; ``(N * Q * heads, levels *
        points)``.
        """
        top, bottom = self.top_left, self.top_left + self.below
        rows = (top, top + self.right, bottom, bottom + self.right)
        return [row.view(self.bags) for row in rows]

    def weights(self, weights: Tensor) -> list[Tensor]:
        """Weights of the same pixels, of the same shape."""
        bottom = self.fraction_y * weights.reshape(self.top_left.shape)
        top = weights.reshape(self.top_left.shape) - bottom
        both = []
        for row in (top, bottom):
            right = row * self.fraction_x
            both += [row - right, right]
        return [weight.view(self.bags) for weight in both]

    def gradients(self, grads: list[Tensor], weights: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of locations and weights, from those of the pixels' weights."""
        grads = [grad.view(self.top_left.shape).float() for grad in grads]
        top_left, top_right, bottom_left, bottom_right = grads
        top = torch.lerp(top_left, top_right, self.fraction_x)
        bottom = torch.lerp(bottom_left, bottom_right, self.fraction_x)
        left = torch.lerp(top_left, bottom_left, self.fraction_y)
        right = torch.lerp(top_right, bottom_right, self.fraction_y)
        grad_weights = torch.lerp(top, bottom, self.fraction_y).view(weights.shape)
        slope = torch.stack((right - left, bottom - top), dim=-1) * self.size * self.is_inside
        return slope.view(*weights.shape, 2) * weights.unsqueeze(-1), grad_weights


def _add_border(value: Tensor, shapes: Shapes) -> Tensor:
    """Rows ``(N * S' * heads, D)`` of ``(N, S, heads, D)``, each level with a border of zeros."""
    n, _, heads, dims = value.shape
    table = value.new_zeros(n, sum((h + 2) * (w + 2) for h, w in shapes), heads, dims)
    bordered = _levels(table, [(h + 2, w + 2) for h, w in shapes])
    for inner, level in zip(bordered, _levels(value, shapes), strict=True):
        inner[:, 1:-1, 1:-1] = level
    return table.view(-1, dims)


def _scatter(pixels: _Pixels, weights: list[Tensor], grad: Tensor, n: int, heads: int) -> Tensor:
    """Gradient of the values ``(N, S, heads, D)``.

    One sorting by the top left pixel serves all four: each sums what it gets as if it were the top
    left one, and the four sums are shifted to their places.
    """
    bordered = [(h + 2, w + 2) for h, w in pixels.shapes]
    tokens = sum(h * w for h, w in bordered)
    rows, order = pixels.top_left.flatten().sort()
    row = torch.arange(n * tokens * heads, device=rows.device, dtype=rows.dtype)
    starts = torch.searchsorted(rows, row)
    bags = order.div(pixels.bags[1], rounding_mode='trunc')
    summed = [
        F.embedding_bag(
            bags, grad, starts, mode='sum', per_sample_weights=weight.flatten()[order].to(grad)
        ).view(n, tokens, heads, grad.shape[-1])
        for weight in weights
    ]
    levels = []
    for four in zip(*(_levels(part, bordered) for part in summed), strict=True):
        top_left, top_right, bottom_left, bottom_right = four
        level = top_left[:, 1:-1, 1:-1] + top_right[:, 1:-1, :-2]
        level += bottom_left[:, :-2, 1:-1]
        level += bottom_right[:, :-2, :-2]
        levels.append(level.flatten(1, 2))
    return torch.cat(levels, dim=1)


def _levels(value: Tensor, shapes: Shapes) -> list[Tensor]:
    """Views ``(N, h, w, heads, D)`` of each level of ``(N, S, heads, D)``."""
    levels = value.split([h * w for h, w in shapes], dim=1)
    return [level.unflatten(1, shape) for level, shape in zip(levels, shapes, strict=True)]


def _row_products(rows: Tensor, table: Tensor, grad: Tensor) -> Tensor:
    """Products of each bag's gradient with each of its rows, of the shape of ``rows``."""
    bags, length = rows.shape
    bag = torch.arange(bags, device=rows.device, dtype=rows.dtype)
    products = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        grad, table, rows.flatten(), bag * length, bag.repeat_interleave(length), 0, -1
    )
    return products.view(bags, length)


BACKENDS: dict[str, Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]] = {
    'embedding_bag': _sample_embedding_bag,
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
        n, queries, _ = query.shape
        sampled = (n, queries, self.num_heads, self.num_levels, self.num_points)
        value = self.value_proj(tokens).unflatten(-1, (self.num_heads, -1))
        offsets = self.sampling_offsets(query).float().view(*sampled, 2)
        weights = self.attention_weights(query).view(n, queries, self.num_heads, -1).softmax(-1)
        # Offsets are in pixels of each level.
        sizes = level_sizes(shapes, query.device)
        locations = points.view(-1, 1, 1, 1, 2) + offsets / sizes.unsqueeze(1)
        out = deformable_attention(value, shapes, locations, weights.view(sampled), self.backend)
        return self.output_proj(out)
