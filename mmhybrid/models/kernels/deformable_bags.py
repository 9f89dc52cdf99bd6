"""Deformable sampling as embedding bags: the fastest form on a CPU."""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .graphs import keep_inputs, refuse_second_derivative
from .pyramid import Shapes

BEFORE, BORDER = 1, 3
"""Zero pixels before a level's first row and column, and before and after together."""

BLOCK = 1 << 21
"""Pixels that a block of queries reads, four a sample: more take memory and are not faster."""


def sample_in_bags(
    value: Tensor, shapes: Shapes, points: Tensor, offsets: Tensor, weights: Tensor
) -> Tensor:
    """See :func:`.sample_around`."""
    sizes = [side for shape in shapes for side in shape]
    # (N, S, heads, D) -> (N, S, C): of four dimensions, torch's compiler would take it for a map.
    value = value.flatten(2)
    return torch.ops.mmhybrid.sample_in_bags(
        value, points.float(), offsets.float(), weights.float(), sizes
    )


# The operator: eager, compiled and recomputed code, and counters of operations, see one.

_library = torch.library.Library('mmhybrid', 'FRAGMENT')
_library.define(
    'sample_in_bags(Tensor value, Tensor points, Tensor offsets, Tensor weights, SymInt[] sizes)'
    ' -> Tensor'
)
_library.define(
    'sample_in_bags_backward(Tensor grad, Tensor value, Tensor points, Tensor offsets,'
    ' Tensor weights, SymInt[] sizes) -> (Tensor, Tensor, Tensor)'
)


@torch.library.impl(_library, 'sample_in_bags', 'CompositeExplicitAutograd')
def _forward(
    value: Tensor, points: Tensor, offsets: Tensor, weights: Tensor, sizes: Sequence[int]
) -> Tensor:
    shapes = list(zip(sizes[::2], sizes[1::2], strict=True))
    value = value.unflatten(2, (weights.shape[2], -1))  # (N, S, C) -> (N, S, heads, D)
    table = _add_border(value, shapes).flatten(0, 2)  # (N, S', heads, D) -> (N S' heads, D)
    n, queries, heads, dims = offsets.shape[:3] + value.shape[3:]
    out = value.new_empty(n, queries, heads, dims)
    blocks = _query_blocks(points, offsets, weights, out)
    for block_points, block_offsets, block_weights, block in blocks:
        pixels = _Pixels(shapes, block_points, block_offsets)
        spread = pixels.spread(block_weights, table.dtype)
        bags = F.embedding_bag(pixels.rows(), table, mode='sum', per_sample_weights=spread)
        block.copy_(bags.view(block.shape))  # (N queries heads, D) -> (N, queries, heads, D)
    return out.flatten(2)


@torch.library.impl(_library, 'sample_in_bags_backward', 'CompositeExplicitAutograd')
def _backward(
    grad: Tensor,
    value: Tensor,
    points: Tensor,
    offsets: Tensor,
    weights: Tensor,
    sizes: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    shapes = list(zip(sizes[::2], sizes[1::2], strict=True))
    value = value.unflatten(2, (weights.shape[2], -1))  # (N, S, C) -> (N, S, heads, D)
    grad = grad.to(value.dtype).unflatten(2, value.shape[2:]).contiguous()  # (N, Q, heads, D)
    table = _add_border(value, shapes).flatten(0, 2)  # (N, S', heads, D) -> (N S' heads, D)
    grad_offsets, grad_weights = torch.empty_like(offsets), torch.empty_like(weights)
    blocks = _query_blocks(points, offsets, weights, grad, grad_offsets, grad_weights)
    for block_points, block_offsets, block_weights, block_grad, *outs in blocks:
        pixels = _Pixels(shapes, block_points, block_offsets)
        block_grad = block_grad.flatten(0, 2)  # (N, queries, heads, D) -> (N queries heads, D)
        products = _row_products(pixels.rows(), table, block_grad)
        for out, gradient in zip(outs, pixels.gradients(products, block_weights), strict=True):
            out.copy_(gradient)
    del table
    pixels = _Pixels(shapes, points, offsets)
    grad = grad.flatten(0, 2)  # (N, Q, heads, D) -> (N Q heads, D)
    grad_value = _scatter(pixels, weights, grad, value.shape)
    # (N, S, heads, D) -> (N, S, C)
    return grad_value.flatten(2), grad_offsets, grad_weights


@torch.library.register_fake('mmhybrid::sample_in_bags', lib=_library)
def _(value, points, offsets, weights, sizes):
    return value.new_empty(value.shape[0], offsets.shape[1], value.shape[2])


@torch.library.register_fake('mmhybrid::sample_in_bags_backward', lib=_library)
def _(grad, value, points, offsets, weights, sizes):
    return tuple(tensor.new_empty(tensor.shape) for tensor in (value, offsets, weights))


def _differentiate(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = torch.ops.mmhybrid.sample_in_bags_backward(grad, *ctx.saved_tensors, ctx.argument)
    grad_value, grad_offsets, grad_weights = grads
    return grad_value, None, grad_offsets, grad_weights, None


torch.library.register_autograd(
    'mmhybrid::sample_in_bags', _differentiate, setup_context=keep_inputs, lib=_library
)
refuse_second_derivative('mmhybrid::sample_in_bags_backward', "deform_backend='gather'", _library)


# The arithmetic


class _Pixels:
    """The four pixels around each sampling point, in levels with a border of zeros.

    The border spares tests for points outside: those far out are clamped to where only zeros are
    near. The samples of a query, ``S = heads * levels * points``, are one row of most tensors here;
    ``M = N * Q`` counts the queries of all images.
    """

    def __init__(self, shapes: Shapes, points: Tensor, offsets: Tensor):
        n, queries, heads, levels, per_level, _ = offsets.shape
        self.shapes = shapes
        self.per_bag = (n * queries, heads, levels * per_level)
        device = offsets.device
        bordered = bordered_shapes(shapes)
        areas = [h * w for h, w in bordered]

        def row(values: list, dtype: torch.dtype) -> Tensor:  # one value for each head's levels
            values = [value for value in values for _ in range(per_level)]
            return torch.tensor(values, device=device, dtype=dtype)

        sides = (row(heads * list(side), torch.float32) for side in zip(*shapes, strict=True))
        size = torch.stack(tuple(sides)).flip(0)  # (2, S), x and y
        # (N, Q, heads, levels, points, 2) -> (N, Q, 2, S)
        offsets = offsets.flatten(2, 4).transpose(2, 3)
        centre = points.unsqueeze(-1) * size - 0.5  # (Q, 2, S)
        self.position = (centre + offsets).flatten(0, 1)  # (N, Q, 2, S) -> (M, 2, S)
        moved = self.position.clamp(-torch.ones_like(size), size)
        low = moved.floor()
        self.size, self.fraction = size, moved.sub_(low)

        # Rows of one pixel's heads lie together.
        below = row([w * heads for _, w in bordered] * heads, torch.int32)
        first = [sum(areas[:i]) + BEFORE * (w + 1) for i, (_, w) in enumerate(bordered)]
        first = row([heads * pixel + head for head in range(heads) for pixel in first], torch.int32)
        x, y = low.int().unbind(1)
        top_left = (y * below).add_(first).add_(x, alpha=heads)
        rows = sum(areas) * heads
        image = torch.arange(n, device=device, dtype=torch.int32) * rows
        top_left.view(n, queries * len(first)).add_(image.unsqueeze(1))  # (M, S) -> (N, Q S)
        # A NaN location gets a valid row here; its weight is NaN, and so is the output.
        top_left.clamp_(0, max(n * rows - 1, 0))
        self.top_left = top_left.view(self.per_bag)  # (M, S) -> (M, heads, levels points)
        self.right, self.below = heads, below[: levels * per_level]

    def rows(self) -> Tensor:
        """Return the table's rows of the top left, top right, bottom left and bottom right pixels.

        Of all images', levels', pixels' and heads': int32 ``(M * heads, 4 * levels * points)``.
        """
        below, right = self.below, torch.full_like(self.below, self.right)
        corners = torch.stack((torch.zeros_like(below), right, below, below + right))
        # (M, heads, 4, levels points) -> (M heads, 4 levels points)
        return (self.top_left.unsqueeze(2) + corners).flatten(2).flatten(0, 1)

    def spread(self, weights: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the weights of the same pixels, in the same shape."""
        spread = [part.to(dtype) for part in _spread(*self._per_bag(weights))]
        return torch.cat(spread, dim=2).flatten(0, 1)  # (M, heads, L) -> (M heads, L)

    def sorted_weights(self, weights: Tensor, order: Tensor) -> list[Tensor]:
        """Return those of all samples in an order, ``(M * heads * levels * points)`` each."""
        parts = self._per_bag(weights)
        return _spread(*(tensor.flatten().index_select(0, order) for tensor in parts))

    def gradients(self, grads: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Compute gradients of offsets and weights from those of the pixels' weights."""
        per_bag, x, y = self._per_bag(weights)
        # (M heads, 4 levels points) -> (M, heads, 4, levels points)
        grads = grads.float().view(*per_bag.shape[:2], 4, per_bag.shape[2])
        top_left, top_right, bottom_left, bottom_right = grads.unbind(2)
        top = torch.lerp(top_left, top_right, x)
        bottom = torch.lerp(bottom_left, bottom_right, x)
        left = torch.lerp(top_left, bottom_left, y)
        right = torch.lerp(top_right, bottom_right, y)
        grad_weights = torch.lerp(top, bottom, y).view(weights.shape)
        slope = torch.stack((right.sub_(left), bottom.sub_(top)), dim=1)
        slope = slope.mul_(per_bag.unsqueeze(1)).flatten(2)  # (M, 2, S)
        # Where a point was clamped, its location has no gradient.
        slope *= (self.position >= -1).logical_and_(self.position <= self.size)
        # (M, 2, S) -> (N, Q, heads, levels, points, 2)
        return slope.transpose(1, 2).reshape(*weights.shape, 2), grad_weights

    def _per_bag(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return weights and fractions x and y, each ``(M, heads, levels * points)``."""
        # (M, 2, S) -> (M, 2, heads, levels points)
        x, y = self.fraction.unflatten(2, self.per_bag[1:]).unbind(1)
        return weights.reshape(self.per_bag), x, y


def _spread(weights: Tensor, x: Tensor, y: Tensor) -> list[Tensor]:
    """Divide weights among the four pixels, by the fractions that lie right and below."""
    bottom = weights * y
    four = []
    for row in (weights - bottom, bottom):
        right = row * x
        four += [row.sub_(right), right]
    return four


def _query_blocks(points: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors into blocks of queries; a GPU takes all of them at once.

    Args:
        points: ``(Q, 2)``.
        others: ``(N, Q, ...)``, the first of them ``(N, Q, heads, levels, points, 2)``.
    """
    offsets = others[0]
    step = len(points)
    if offsets.device.type == 'cpu':
        # Two numbers an offset, four pixels a sample.
        step = max(BLOCK // max(2 * offsets.shape[0] * offsets.shape[2:].numel(), 1), 64)
    parts = (tensor.split(max(step, 1), dim=1) for tensor in others)
    return zip(points.split(max(step, 1)), *parts, strict=True)


def bordered_shapes(shapes: Shapes) -> list[tuple[int, int]]:
    """Return the sides of the levels with their borders."""
    return [(h + BORDER, w + BORDER) for h, w in shapes]


def _levels(value: Tensor, shapes: Shapes) -> list[Tensor]:
    """Split ``(N, S, heads, D)`` into a view ``(N, h, w, heads, D)`` for each level."""
    levels = value.split([h * w for h, w in shapes], dim=1)
    # (N, h w, heads, D) -> (N, h, w, heads, D)
    return [level.unflatten(1, shape) for level, shape in zip(levels, shapes, strict=True)]


def _add_border(value: Tensor, shapes: Shapes) -> Tensor:
    """Put a border of zeros around each level: ``(N, S, heads, D)`` to ``(N, S', heads, D)``."""
    bordered = bordered_shapes(shapes)
    tokens = sum(h * w for h, w in bordered)
    table = value.new_empty(value.shape[0], tokens, *value.shape[2:])
    levels = zip(_levels(table, bordered), _levels(value, shapes), shapes, strict=True)
    for level, inner, (h, w) in levels:
        bottom, right = BEFORE + h, BEFORE + w
        level[:, :BEFORE] = 0
        level[:, bottom:] = 0
        level[:, BEFORE:bottom, :BEFORE] = 0
        level[:, BEFORE:bottom, right:] = 0
        level[:, BEFORE:bottom, BEFORE:right] = inner
    return table


def _scatter(pixels: _Pixels, weights: Tensor, grad: Tensor, shape: torch.Size) -> Tensor:
    """Compute the gradient of the values ``(N, S, heads, D)``, level by level of each image.

    It is a sum of embedding bags too, over the transposed matrix: autograd's own is several times
    slower. One sorting by the top left pixel serves all four: each sums its weighted gradients as
    if it were the top left one, and the sums are shifted to their places.
    """
    n, _, heads, dims = shape
    rows, order = pixels.top_left.flatten().sort()
    bags = order.div(pixels.top_left.shape[-1], rounding_mode='trunc').int()
    weights = [weight.to(grad.dtype) for weight in pixels.sorted_weights(weights, order)]

    sides = bordered_shapes(pixels.shapes)
    row = torch.arange(n * sum(map(math.prod, sides)) * heads + 1, device=rows.device)
    starts = torch.searchsorted(rows, row.to(rows.dtype), out_int32=True)
    out, row = grad.new_zeros(shape), 0
    steps = ((0, 0), (0, 1), (1, 0), (1, 1))  # down and to the right of the top left pixel
    for i in range(n):
        for level, side in zip(_levels(out[i : i + 1], pixels.shapes), sides, strict=True):
            offsets = starts[row : row + math.prod(side) * heads + 1]
            row += len(offsets) - 1
            samples = slice(int(offsets[0]), int(offsets[-1]))
            offsets = offsets - offsets[0]
            for weight, (down, right) in zip(weights, steps, strict=True):
                sums = F.embedding_bag(
                    bags[samples],
                    grad,
                    offsets,
                    mode='sum',
                    per_sample_weights=weight[samples],
                    include_last_offset=True,
                ).view(1, *side, heads, dims)  # (h' w' heads, D) -> (1, h', w', heads, D)
                top, left = BEFORE - down, BEFORE - right
                _, h, w, _, _ = level.shape
                level += sums[:, top : top + h, left : left + w]
    return out


def _row_products(rows: Tensor, table: Tensor, grad: Tensor) -> Tensor:
    """Multiply each bag's gradient with each of its rows; the result is shaped as ``rows``."""
    length = rows.shape[1]
    bag = torch.arange(len(rows), device=rows.device, dtype=rows.dtype)
    products = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        grad, table, rows.flatten(), bag * length, bag.repeat_interleave(length), 0, -1
    )
    return products.view(rows.shape)
