"""Deformable attention's sampling as embedding bags: the fastest form on a CPU."""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .blocks import BLOCK, block_length, borrow
from .export import takes_operators, tensor_of
from .pyramid import Shapes

BEFORE, BORDER = 1, 3
"""Zero pixels before a level's first row and column, and before and after together."""

CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""The pixels around a point, as steps down and to the right of the top left one."""


def sample_in_bags(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """See :func:`.deformable_attention`."""
    if takes_operators():
        if not torch.is_grad_enabled():  # the graph takes the arithmetic apart, and needs no blocks
            return prepare_bags(value, shapes)(locations, weights)
        from .operators import bag_samples

        sizes = [side for shape in shapes for side in shape]
        return bag_samples(value.flatten(2), locations.float(), weights.float(), sizes)
    return _Sampling.apply(value, tuple(shapes), locations.float(), weights.float())


Sampler = Callable[[Tensor, Tensor], Tensor]


def prepare_bags(value: Tensor, shapes: Shapes) -> Sampler:
    """The same without gradients, as a function of locations and weights."""
    return _sampler(_add_border(value, shapes, lend=True), len(value), shapes)


def read_into_bags(
    read: Callable[[Tensor], Tensor], tokens: Tensor, num_heads: int, shapes: Shapes
) -> Sampler:
    """:func:`prepare_bags` of ``read(tokens)``, which is never whole in memory.

    Some rows of a level at a time go from the cache to where they are sampled.

    Args:
        read: makes ``(N, S, heads * D)`` of ``(N, S, C)``, of each token alone.
    """
    n, length, _ = tokens.shape
    if block_length(tokens) >= length:
        return prepare_bags(read(tokens).unflatten(2, (num_heads, -1)), shapes)
    levels = tokens.split([h * w for h, w in shapes], dim=1)
    table, inners = None, None
    for i, (level, (h, w)) in enumerate(zip(levels, shapes, strict=True)):
        parts = math.ceil(h * w / block_length(level))
        step = math.ceil(h / parts)
        for first in range(0, h, step):
            part = read(level[:, first * w : (first + step) * w])
            part = part.unflatten(2, (num_heads, -1)).unflatten(1, (-1, w))
            if table is None:
                table = _zero_bordered(part, n, shapes, lend=True)
                inners = _inner_levels(table, shapes)
            inners[i][:, first : first + step] = part
    return _sampler(table, n, shapes)


def _sampler(table: Tensor, n: int, shapes: Shapes) -> Sampler:
    """Samples of a table ``(N, S', heads, D)`` of levels with borders."""
    rows = table.flatten(0, 2)

    def sample(locations: Tensor, weights: Tensor) -> Tensor:
        pixels = _Pixels(shapes, locations.float())
        weights = pixels.weights(weights.float(), rows.dtype)
        out = F.embedding_bag(pixels.rows(), rows, mode='sum', per_sample_weights=weights)
        return out.view(n, locations.shape[1], table.shape[2] * table.shape[3])

    return sample


class _Sampling(torch.autograd.Function):
    """One embedding bag over the four pixels around each point, and its backward pass.

    It keeps the inputs alone and finds the pixels again, and it sums the gradient of the values by
    embedding bags too, over the transposed matrix: autograd's own is several times slower.
    """

    @staticmethod
    def forward(ctx, value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(value, locations, weights)
        ctx.shapes = shapes
        return sample_blocks(value, shapes, locations, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        value, locations, weights = ctx.saved_tensors
        grad = of_heads(grad, value)
        grad_value = grad_locations = grad_weights = None
        if ctx.needs_input_grad[0]:
            grad_value = value_gradient(grad, value, ctx.shapes, locations, weights)
        if ctx.needs_input_grad[2] or ctx.needs_input_grad[3]:
            grad_locations, grad_weights = sample_gradients(
                grad, value, ctx.shapes, locations, weights
            )
        return grad_value, None, grad_locations, grad_weights


def sample_blocks(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The samples ``(N, Q, heads * D)``, a block of queries after the other."""
    sample = _sampler(_add_border(value, shapes), len(value), shapes)
    return torch.cat([sample(*block) for block in _query_blocks(locations, weights)], dim=1)


def of_heads(grad: Tensor, value: Tensor) -> Tensor:
    """Gradient of the samples ``(N, Q, heads * D)`` as the functions that follow take it."""
    return grad.to(value.dtype).unflatten(2, value.shape[2:]).contiguous()  # (N, Q, heads, D)


def value_gradient(
    grad: Tensor, value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor
) -> Tensor:
    """Gradient of the values."""
    return _scatter(_Pixels(shapes, locations), weights, grad.flatten(0, 2), value.shape)


def sample_gradients(
    grad: Tensor, value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of locations and weights."""
    table = _add_border(value, shapes).flatten(0, 2)
    parts = []
    for block_locations, block_weights, block_grad in _query_blocks(locations, weights, grad):
        pixels = _Pixels(shapes, block_locations)
        products = _row_products(pixels.rows(), table, block_grad.flatten(0, 2))
        parts.append(pixels.gradients(products, block_weights))
    grad_locations, grad_weights = (torch.cat(p, dim=1) for p in zip(*parts, strict=True))
    return grad_locations, grad_weights


def _query_blocks(locations: Tensor, weights: Tensor, *others: Tensor) -> Iterator[tuple]:
    """What belongs to as many queries at a time as the cache holds, all tensors ``(N, Q, ...)``.

    A GPU takes all of them at once.
    """
    if weights.device.type != 'cpu':
        return iter([(locations, weights, *others)])
    samples = 4 * weights.shape[0] * weights.shape[2:].numel()
    step = max(BLOCK // max(samples, 1), 64)
    return zip(*(t.split(step, dim=1) for t in (locations, weights, *others)), strict=True)


class _Pixels:
    """The four pixels around each sampling point, in levels with a border of zeros.

    The border spares all tests of what is inside: a point far outside is moved to where only zeros
    are near. What belongs to a query's samples is one row, ``(heads * levels * points)``, of most
    tensors here, and what is constant for a sample is one such row for all queries. A query of any
    image is one of M = N * Q; none of the tensors has four dimensions, which a compiler takes for
    a map, whose channels it puts last.
    """

    def __init__(self, shapes: Shapes, locations: Tensor):
        n, queries, heads, levels, points, _ = locations.shape
        self.shapes = shapes
        self.per_bag = (n * queries, heads, levels * points)
        bordered = bordered_shapes(shapes)
        areas = [h * w for h, w in bordered]

        def row(values: list, dtype: torch.dtype) -> Tensor:  # one for each head's levels
            return tensor_of(values, points, device=locations.device, dtype=dtype)

        sides = (row(heads * list(side), torch.float32) for side in zip(*shapes, strict=True))
        self.size = torch.stack(tuple(sides)).flip(0)  # (2, samples), x and y
        # (N, Q, heads, levels, points, 2) -> (M, 2, heads levels points)
        locations = locations.movedim(-1, 2).flatten(3).flatten(0, 1)
        self.position = (locations * self.size).sub_(0.5)
        moved = self.position.clamp(-torch.ones_like(self.size), self.size)
        low = moved.floor()
        self.fraction = moved.sub_(low)

        # Rows of one pixel's heads lie together.
        below = row([w * heads for _, w in bordered] * heads, torch.int32)
        first = [sum(areas[:i]) + BEFORE * (w + 1) for i, (_, w) in enumerate(bordered)]
        first = row([heads * pixel + head for head in range(heads) for pixel in first], torch.int32)
        x, y = low.int().unbind(1)
        top_left = (y * below).add_(first).add_(x, alpha=heads)
        rows = sum(areas) * heads
        image = torch.arange(n, device=locations.device, dtype=torch.int32) * rows
        top_left.view(n, queries * len(first)).add_(image.unsqueeze(1))
        # Not a number becomes a valid row here, and stays not a number in the weights.
        self.top_left = top_left.clamp_(0, max(n * rows - 1, 0)).view(self.per_bag)
        self.right, self.below = heads, below[: levels * points]

    def rows(self) -> Tensor:
        """Rows of the top left, top right, bottom left and bottom right pixels in the table.

        They count all images', levels', pixels' and heads' values; int32 ``(M * heads, 4 * levels *
        points)``.
        """
        below = self.below
        if torch.compiler.is_compiling():
            top, bottom = self.top_left, self.top_left + below
            rows = torch.cat((top, top + self.right, bottom, bottom + self.right), dim=2)
            return rows.flatten(0, 1)
        right = torch.full_like(below, self.right)
        corners = torch.stack((torch.zeros_like(below), right, below, below + right))
        return (self.top_left.unsqueeze(2) + corners).flatten(2).flatten(0, 1)

    def weights(self, weights: Tensor, dtype: torch.dtype) -> Tensor:
        """Weights of the same pixels, of the same shape."""
        spread = [part.to(dtype) for part in _spread(*self._per_bag(weights))]
        return torch.cat(spread, dim=2).flatten(0, 1)

    def sorted_weights(self, weights: Tensor, order: Tensor) -> list[Tensor]:
        """Those of all samples in another order, ``(M * heads * levels * points)`` each."""
        parts = self._per_bag(weights)
        return _spread(*(tensor.flatten().index_select(0, order) for tensor in parts))

    def gradients(self, grads: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of locations and weights, from those of the pixels' weights."""
        per_bag, x, y = self._per_bag(weights)
        grads = grads.float().view(*per_bag.shape[:2], 4, per_bag.shape[2])
        top_left, top_right, bottom_left, bottom_right = grads.unbind(2)
        top = torch.lerp(top_left, top_right, x)
        bottom = torch.lerp(bottom_left, bottom_right, x)
        left = torch.lerp(top_left, bottom_left, y)
        right = torch.lerp(top_right, bottom_right, y)
        grad_weights = torch.lerp(top, bottom, y).view(weights.shape)
        slope = torch.stack((right.sub_(left), bottom.sub_(top)), dim=1)
        slope = slope.mul_(per_bag.unsqueeze(1)).flatten(2).mul_(self.size)
        # A point that was moved does not move its sample.
        slope *= (self.position >= -1).logical_and_(self.position <= self.size)
        # (M, 2, heads levels points) -> (N, Q, heads, levels, points, 2)
        return slope.transpose(1, 2).reshape(*weights.shape, 2), grad_weights

    def _per_bag(self, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights and fractions x and y, each ``(M, heads, levels * points)``."""
        x, y = self.fraction.unflatten(2, self.per_bag[1:]).unbind(1)
        return weights.reshape(self.per_bag), x, y


def _spread(weights: Tensor, x: Tensor, y: Tensor) -> list[Tensor]:
    """Weights divided among the four pixels, by the fractions that lie right and below."""
    bottom = weights * y
    four = []
    for row in (weights - bottom, bottom):
        right = row * x
        four += [row.sub_(right), right]
    return four


def bordered_shapes(shapes: Shapes) -> list[tuple[int, int]]:
    """Sides of the levels with their borders."""
    return [(h + BORDER, w + BORDER) for h, w in shapes]


def _add_border(value: Tensor, shapes: Shapes, lend: bool = False) -> Tensor:
    """``(N, S', heads, D)`` of ``(N, S, heads, D)``, each level with a border of zeros."""
    if torch.compiler.is_compiling():  # writing into parts of a tensor takes a graph many steps
        border = (0, 0, 0, 0, BEFORE, BORDER - BEFORE, BEFORE, BORDER - BEFORE)
        return torch.cat([F.pad(m, border).flatten(1, 2) for m in _levels(value, shapes)], dim=1)
    table = _zero_bordered(value, len(value), shapes, lend)
    for inner, level in zip(_inner_levels(table, shapes), _levels(value, shapes), strict=True):
        inner.copy_(level)
    return table


def _zero_bordered(like: Tensor, n: int, shapes: Shapes, lend: bool) -> Tensor:
    """Levels ``(N, S', heads, D)``, the last two as of ``like``, whose borders alone are filled.

    In lent memory only without gradients: a training is not given its memory anew each time.
    """
    bordered = bordered_shapes(shapes)
    shape = n, sum(h * w for h, w in bordered), *like.shape[-2:]
    table = borrow(like, *shape, slot='table') if lend else like.new_empty(shape)
    for level, (h, w) in zip(_levels(table, bordered), shapes, strict=True):
        bottom, right = BEFORE + h, BEFORE + w
        level[:, :BEFORE] = 0
        level[:, bottom:] = 0
        level[:, BEFORE:bottom, :BEFORE] = 0
        level[:, BEFORE:bottom, right:] = 0
    return table


def _inner_levels(table: Tensor, shapes: Shapes) -> list[Tensor]:
    """Views ``(N, h, w, heads, D)`` of what lies inside the borders."""
    levels = zip(_levels(table, bordered_shapes(shapes)), shapes, strict=True)
    return [level[:, BEFORE : BEFORE + h, BEFORE : BEFORE + w] for level, (h, w) in levels]


def _scatter(pixels: _Pixels, weights: Tensor, grad: Tensor, shape: torch.Size) -> Tensor:
    """Gradient of the values ``(N, S, heads, D)``, a level of an image after the other.

    One sorting by the top left pixel serves all four: each sums what it gets as if it were the top
    left one, and the sums are shifted to their places.
    """
    n, _, heads, dims = shape
    rows, order = pixels.top_left.flatten().sort()
    bags = order.div(pixels.top_left.shape[-1], rounding_mode='trunc').int()
    weights = [weight.to(grad.dtype) for weight in pixels.sorted_weights(weights, order)]

    sides = bordered_shapes(pixels.shapes)
    row = torch.arange(n * sum(map(math.prod, sides)) * heads + 1, device=rows.device)
    starts = torch.searchsorted(rows, row.to(rows.dtype), out_int32=True)
    out, row = grad.new_zeros(shape), 0
    for i in range(n):
        for level, side in zip(_levels(out[i : i + 1], pixels.shapes), sides, strict=True):
            offsets = starts[row : row + math.prod(side) * heads + 1]
            row += len(offsets) - 1
            samples = slice(int(offsets[0]), int(offsets[-1]))
            offsets = offsets - offsets[0]
            for weight, (down, right) in zip(weights, CORNERS, strict=True):
                sums = F.embedding_bag(
                    bags[samples],
                    grad,
                    offsets,
                    mode='sum',
                    per_sample_weights=weight[samples],
                    include_last_offset=True,
                ).view(1, *side, heads, dims)
                top, left = BEFORE - down, BEFORE - right
                _, h, w, _, _ = level.shape
                level += sums[:, top : top + h, left : left + w]
    return out


def _levels(value: Tensor, shapes: Shapes) -> list[Tensor]:
    """Views ``(N, h, w, heads, D)`` of each level of ``(N, S, heads, D)``."""
    levels = value.split([h * w for h, w in shapes], dim=1)
    return [level.unflatten(1, shape) for level, shape in zip(levels, shapes, strict=True)]


def _row_products(rows: Tensor, table: Tensor, grad: Tensor) -> Tensor:
    """Products of each bag's gradient with each of its rows, of the shape of ``rows``."""
    length = rows.shape[1]
    bag = torch.arange(len(rows), device=rows.device, dtype=rows.dtype)
    products = torch.ops.aten._embedding_bag_per_sample_weights_backward(
        grad, table, rows.flatten(), bag * length, bag.repeat_interleave(length), 0, -1
    )
    return products.view(rows.shape)
