"""The sum of deformable attention as Triton kernels, for CUDA devices.

A program works on one head of a few queries that follow one another, and on all points of a level
at a time. A sample reads four rows of the value tensor, each of contiguous numbers that 16-byte
loads take; everything is summed in float32 in registers. With L levels, P points and values of D
numbers of b bytes, a query and head moves

- ``4 L P D b`` bytes of rows. Neighbouring queries sample the same rows, and an image's pyramid
  fits the second-level cache: what bounds the kernels is that cache, not the device's memory;
- ``2 D b`` bytes from and to memory, its share of values and output, and ``8 L P`` and ``4 L P``
  for its locations and weights in float32.

The backward pass keeps no samples but reads the rows again. Of its two kernels one sums the
gradients of locations and weights in registers. The other adds up that of the values in a float32
buffer by atomic additions, 16 bytes each where the GPU can and as many numbers as the rows have,
which also happen in the cache. In one kernel the two would fight over how to spread a row over the
threads, and pass each row through shared memory.
"""

import os
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .graphs import keep_inputs

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
INTERPRETED = os.environ.get('TRITON_INTERPRET') == '1'
"""True if Triton runs the kernels in its interpreter, on a CPU."""
MAX_INT32 = 2**31 - 1

# TILE is queries x points x width of a program, 4 to 16 numbers a thread: the more queries, the
# more rows they share. It is tuned for what is in KEY and for each dtype, not for each image size.
# The interpreter has nothing to tune.
CONFIGS = [
    triton.Config(dict(TILE=tile), num_warps=warps)
    for tile, warps in ((1024, 4), (512, 4), (2048, 4), (2048, 8), (4096, 16))
][: 1 if INTERPRETED else None]
KEY = ['HEADS', 'DIMS', 'LEVELS', 'POINTS', 'WIDE']
SIZES = ['queries', 'tokens']
"""Arguments for whose values no kernel is compiled anew; the levels' sides are floats for that."""


@triton.jit
def _block(queries, HEADS: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """Return image, head and queries of a program, and a mask of the queries that exist."""
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    head = tl.program_id(1)
    image = tl.program_id(2).to(tl.int64)
    is_query = query < queries
    # Numbers of values within an image; 32 bits do but for huge ones.
    query = query.to(tl.int64) if WIDE else query
    return image, head, query, is_query


@triton.jit
def _place(location, size):
    """Return the pixel at or before a location, the distance beyond, and if pixels are near it.

    Locations far outside are clamped to where pixels weigh nothing. NaN stays NaN.
    """
    position = location * size - 0.5
    is_near = (position >= -1) & (position <= size)
    moved = tl.maximum(position, -1.0, propagate_nan=tl.PropagateNan.ALL)
    moved = tl.minimum(moved, size, propagate_nan=tl.PropagateNan.ALL)
    pixel = tl.floor(moved)
    return pixel.to(tl.int32), moved - pixel, is_near


@triton.jit
def _side(shapes, i: tl.constexpr):
    return tl.cast(shapes[i], tl.int32)


@triton.jit
def _neighbour(x, y, h, w, RIGHT: tl.constexpr, DOWN: tl.constexpr):
    """Return a mask of the neighbours of (x, y) that lie in the level, and their numbers there."""
    x, y = x + RIGHT, y + DOWN
    return (x >= 0) & (x < w) & (y >= 0) & (y < h), y * w + x


@triton.jit
def _share(beyond_x, beyond_y, RIGHT: tl.constexpr, DOWN: tl.constexpr):
    """Return that neighbour's share of the bilinear sample, in x and in y."""
    return beyond_x if RIGHT else 1 - beyond_x, beyond_y if DOWN else 1 - beyond_y


# Tensors in the kernels are (queries, points) or (queries, points, width).


@triton.jit(do_not_specialize=SIZES)
def _sample(
    value,
    locations,
    weights,
    out,
    shapes,
    queries,
    tokens,
    HEADS: tl.constexpr,
    DIMS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    WIDE: tl.constexpr,
    POINT_BLOCK: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):
    BLOCK: tl.constexpr = max(TILE // (POINT_BLOCK * DIM_BLOCK), 1)
    image, head, query, is_query = _block(queries, HEADS, BLOCK, WIDE)
    point = tl.arange(0, POINT_BLOCK)[None, :]
    dim = tl.arange(0, DIM_BLOCK)
    is_sample = is_query[:, None] & (point < POINTS)

    value += image * tokens * (HEADS * DIMS) + head * DIMS
    first_sample = image * queries * (HEADS * LEVELS * POINTS)
    samples = ((query * HEADS + head) * (LEVELS * POINTS))[:, None] + point

    total = tl.zeros((BLOCK, POINT_BLOCK, DIM_BLOCK), tl.float32)
    first = 0
    for level in tl.static_range(LEVELS):
        h, w = _side(shapes, 2 * level), _side(shapes, 2 * level + 1)
        at = first_sample + samples + level * POINTS
        at_x = 2 * at
        weight = tl.load(weights + at, is_sample, 0.0).to(tl.float32)
        x, beyond_x, _ = _place(tl.load(locations + at_x, is_sample, 0.0), w)
        y, beyond_y, _ = _place(tl.load(locations + at_x + 1, is_sample, 0.0), h)
        for corner in tl.static_range(4):
            is_inside, pixel = _neighbour(x, y, h, w, corner % 2, corner // 2)
            share_x, share_y = _share(beyond_x, beyond_y, corner % 2, corner // 2)
            at_row = (first + pixel).to(query.dtype) * (HEADS * DIMS)
            mask = (is_inside & is_sample)[:, :, None] & (dim < DIMS)[None, None, :]
            row = tl.load(value + (at_row[:, :, None] + dim[None, None, :]), mask, 0.0)
            total += (weight * share_x * share_y)[:, :, None] * row.to(tl.float32)
        first += h * w

    out += image * queries * (HEADS * DIMS) + head * DIMS
    at = (query * (HEADS * DIMS))[:, None] + dim[None, :]
    mask = is_query[:, None] & (dim < DIMS)[None, :]
    tl.store(out + at, tl.sum(total, axis=1).to(out.dtype.element_ty), mask)


@triton.jit(do_not_specialize=SIZES)
def _sample_gradients(
    grad,
    value,
    locations,
    weights,
    grad_locations,
    grad_weights,
    shapes,
    queries,
    tokens,
    HEADS: tl.constexpr,
    DIMS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    WIDE: tl.constexpr,
    POINT_BLOCK: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):
    BLOCK: tl.constexpr = max(TILE // (POINT_BLOCK * DIM_BLOCK), 1)
    image, head, query, is_query = _block(queries, HEADS, BLOCK, WIDE)
    point = tl.arange(0, POINT_BLOCK)[None, :]
    dim = tl.arange(0, DIM_BLOCK)
    is_sample = is_query[:, None] & (point < POINTS)

    value += image * tokens * (HEADS * DIMS) + head * DIMS
    grad += image * queries * (HEADS * DIMS) + head * DIMS
    first_sample = image * queries * (HEADS * LEVELS * POINTS)
    samples = ((query * HEADS + head) * (LEVELS * POINTS))[:, None] + point

    at = (query * (HEADS * DIMS))[:, None] + dim[None, :]
    mask = is_query[:, None] & (dim < DIMS)[None, :]
    grad_row = tl.load(grad + at, mask, 0.0).to(tl.float32)[:, None, :]
    first = 0
    for level in tl.static_range(LEVELS):
        h, w = _side(shapes, 2 * level), _side(shapes, 2 * level + 1)
        at = first_sample + samples + level * POINTS
        at_x = 2 * at
        weight = tl.load(weights + at, is_sample, 0.0).to(tl.float32)
        x, beyond_x, is_near_x = _place(tl.load(locations + at_x, is_sample, 0.0), w)
        y, beyond_y, is_near_y = _place(tl.load(locations + at_x + 1, is_sample, 0.0), h)
        grad_weight = tl.zeros((BLOCK, POINT_BLOCK), tl.float32)
        slope_x = tl.zeros((BLOCK, POINT_BLOCK), tl.float32)
        slope_y = tl.zeros((BLOCK, POINT_BLOCK), tl.float32)
        for corner in tl.static_range(4):
            is_inside, pixel = _neighbour(x, y, h, w, corner % 2, corner // 2)
            share_x, share_y = _share(beyond_x, beyond_y, corner % 2, corner // 2)
            at_row = (first + pixel).to(query.dtype) * (HEADS * DIMS)
            mask = (is_inside & is_sample)[:, :, None] & (dim < DIMS)[None, None, :]
            row = tl.load(value + (at_row[:, :, None] + dim[None, None, :]), mask, 0.0)
            product = tl.sum(row.to(tl.float32) * grad_row, axis=2)
            grad_weight += share_x * share_y * product
            slope_x += share_y * (product if corner % 2 else -product)
            slope_y += share_x * (product if corner // 2 else -product)
        tl.store(grad_weights + at, grad_weight, is_sample)
        tl.store(grad_locations + at_x, slope_x * weight * w * is_near_x, is_sample)
        tl.store(grad_locations + at_x + 1, slope_y * weight * h * is_near_y, is_sample)
        first += h * w


@triton.jit(do_not_specialize=SIZES)
def _value_gradient(
    grad,
    locations,
    weights,
    grad_value,
    shapes,
    queries,
    tokens,
    HEADS: tl.constexpr,
    DIMS: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    WIDE: tl.constexpr,
    POINT_BLOCK: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
    TILE: tl.constexpr,
):
    BLOCK: tl.constexpr = max(TILE // (POINT_BLOCK * DIM_BLOCK), 1)
    image, head, query, is_query = _block(queries, HEADS, BLOCK, WIDE)
    point = tl.arange(0, POINT_BLOCK)[None, :]
    dim = tl.arange(0, DIM_BLOCK)
    is_sample = is_query[:, None] & (point < POINTS)

    grad_value += image * tokens * (HEADS * DIMS) + head * DIMS
    grad += image * queries * (HEADS * DIMS) + head * DIMS
    first_sample = image * queries * (HEADS * LEVELS * POINTS)
    samples = ((query * HEADS + head) * (LEVELS * POINTS))[:, None] + point

    at = (query * (HEADS * DIMS))[:, None] + dim[None, :]
    mask = is_query[:, None] & (dim < DIMS)[None, :]
    grad_row = tl.load(grad + at, mask, 0.0).to(tl.float32)[:, None, :]
    first = 0
    for level in tl.static_range(LEVELS):
        h, w = _side(shapes, 2 * level), _side(shapes, 2 * level + 1)
        at = first_sample + samples + level * POINTS
        at_x = 2 * at
        weight = tl.load(weights + at, is_sample, 0.0).to(tl.float32)
        x, beyond_x, _ = _place(tl.load(locations + at_x, is_sample, 0.0), w)
        y, beyond_y, _ = _place(tl.load(locations + at_x + 1, is_sample, 0.0), h)
        for corner in tl.static_range(4):
            is_inside, pixel = _neighbour(x, y, h, w, corner % 2, corner // 2)
            share_x, share_y = _share(beyond_x, beyond_y, corner % 2, corner // 2)
            at_row = (first + pixel).to(query.dtype) * (HEADS * DIMS)
            mask = (is_inside & is_sample)[:, :, None] & (dim < DIMS)[None, None, :]
            row = (weight * share_x * share_y)[:, :, None] * grad_row
            to = grad_value + (at_row[:, :, None] + dim[None, None, :])
            tl.atomic_add(to, row, mask, sem='relaxed')
        first += h * w


_sample = triton.autotune(CONFIGS, KEY)(_sample)
_sample_gradients = triton.autotune(CONFIGS, KEY)(_sample_gradients)
_value_gradient = triton.autotune(CONFIGS, KEY, reset_to_zero=['grad_value'])(_value_gradient)


def deformable_sample(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """See :func:`.deformable_attention`; locations and weights in float32."""
    sizes = [side for shape in shapes for side in shape]
    return _op(value.contiguous(), locations.contiguous(), weights.contiguous(), sizes)


# Operators, which torch.compile puts into its graphs as they are.


@torch.library.custom_op('mmhybrid::deformable_sample', mutates_args=())
def _op(value: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]) -> Tensor:
    n, tokens, heads, dims = value.shape
    out = value.new_empty(n, locations.shape[1], heads * dims)
    _launch(_sample, (value, locations, weights, out), locations, sizes, tokens, dims)
    return out


@_op.register_fake
def _(value: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]) -> Tensor:
    n, _, heads, dims = value.shape
    return value.new_empty(n, locations.shape[1], heads * dims)


@torch.library.custom_op('mmhybrid::deformable_sample_gradients', mutates_args=())
def _sample_gradients_op(
    grad: Tensor, value: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor]:
    _, tokens, _, dims = value.shape
    outs = torch.empty_like(locations), torch.empty_like(weights)
    tensors = (grad, value, locations, weights, *outs)
    _launch(_sample_gradients, tensors, locations, sizes, tokens, dims)
    return outs


@_sample_gradients_op.register_fake
def _(grad, value, locations, weights, sizes):
    return torch.empty_like(locations), torch.empty_like(weights)


@torch.library.custom_op('mmhybrid::deformable_value_gradient', mutates_args=())
def _value_gradient_op(
    grad: Tensor, value: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]
) -> Tensor:
    _, tokens, _, dims = value.shape
    out = torch.zeros_like(value, dtype=torch.float32)
    _launch(_value_gradient, (grad, locations, weights, out), locations, sizes, tokens, dims)
    return out.to(value.dtype)


@_value_gradient_op.register_fake
def _(grad, value, locations, weights, sizes):
    return torch.empty_like(value)


def _gradients(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    inputs = (grad.contiguous(), *ctx.saved_tensors, ctx.argument)
    of_value, of_locations, of_weights, _ = ctx.needs_input_grad
    grad_value = grad_locations = grad_weights = None
    if of_value:
        grad_value = _value_gradient_op(*inputs)
    if of_locations or of_weights:
        grad_locations, grad_weights = _sample_gradients_op(*inputs)
    return grad_value, grad_locations, grad_weights, None


_op.register_autograd(_gradients, setup_context=keep_inputs)


def _launch(
    kernel, tensors: tuple[Tensor, ...], locations: Tensor, sizes: list[int], tokens: int, dims: int
) -> None:
    n, queries, heads, levels, points, _ = locations.shape
    if n * queries == 0:
        return
    blocks = dict(
        POINT_BLOCK=triton.next_power_of_2(points), DIM_BLOCK=triton.next_power_of_2(dims)
    )
    per_query = blocks['POINT_BLOCK'] * blocks['DIM_BLOCK']
    of_an_image = heads * max(tokens * dims, queries * dims, queries * levels * points)

    def grid(meta: dict) -> tuple[int, int, int]:
        return triton.cdiv(queries, max(meta['TILE'] // per_query, 1)), heads, n

    with torch.cuda.device_of(locations):
        kernel[grid](
            *tensors,
            tuple(map(float, sizes)),
            queries,
            tokens,
            HEADS=heads,
            DIMS=dims,
            LEVELS=levels,
            POINTS=points,
            WIDE=of_an_image > MAX_INT32,
            **blocks,
        )
