"""Work on large tensors, as much at a time as a processor's cache holds."""

import math
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

BLOCK = 1 << 19
"""Values of a block: 2 MB of float32, a second-level cache of today."""

TOKENS = 4 * BLOCK
"""Values of a block of tokens, for a chain of many layers: to start all of them more often, for
smaller blocks, costs more than the cache saves."""

MAX_LENT = 1 << 23
"""Values of memory that each slot keeps to be lent: 32 MB of float32."""


def in_blocks(function: Callable, *tokens: Tensor, reuse: bool = False):
    """``function(*tokens)``, a block of tokens after the other where that saves time.

    On a CPU a chain of layers over millions of values waits for memory between any two of them; in
    blocks more of what passes from one layer to the next is in the cache. With gradients all of it
    is kept anyway, and nothing would be saved.

    Args:
        function: computes tokens ``(..., L, D)`` or a tuple of such, each from that token alone.
        tokens: ``(..., L, C)``, cut into blocks along L.
        reuse: whether the first result, of the same shape, may overwrite the first argument.
    """
    first = tokens[0]
    length = first.shape[-2]
    if not can_block(first) or first.numel() <= TOKENS:
        return function(*tokens)
    step = block_length(first)
    outs = None
    for start in range(0, length, step):
        parts = function(*(t[..., start : start + step, :] for t in tokens))
        is_tuple = isinstance(parts, tuple)
        parts = parts if is_tuple else (parts,)
        if outs is None:
            outs = [part.new_empty(*part.shape[:-2], length, part.shape[-1]) for part in parts]
            if reuse and outs[0].dtype == first.dtype:
                outs[0] = first
        for out, part in zip(outs, parts, strict=True):
            out[..., start : start + step, :] = part
    return tuple(outs) if is_tuple else outs[0]


def borrow(like: Tensor, *shape: int, slot: str = 'scratch') -> Tensor:
    """Memory for a contiguous tensor of this shape: the slot's own, lent until the tensor is gone.

    Large tensors that are needed for a moment only would get other memory each time, which is not
    in the cache, and on Linux comes from the system page by page. Every thread has its own slots.
    Who goes on with views of the tensor has to keep the tensor too.
    """
    count = math.prod(shape)
    is_plain = like.device.type == 'cpu' and type(like) is Tensor  # not one that stands for others
    if not is_plain or count > MAX_LENT:
        return like.new_empty(shape)
    key = slot, like.dtype
    borrower = _lent.borrowers.get(key)
    if borrower is not None and borrower() is not None:
        return like.new_empty(shape)
    memory = _lent.memory.get(key)
    if memory is None or len(memory) < count:
        with torch.inference_mode(False):  # for trainings too
            memory = _lent.memory[key] = like.new_empty(count)
    tensor = memory[:count].view(shape)
    _lent.borrowers[key] = weakref.ref(tensor)
    return tensor


class _Lent(threading.local):
    def __init__(self):
        self.memory: dict[tuple[str, torch.dtype], Tensor] = {}
        self.borrowers: dict[tuple[str, torch.dtype], weakref.ref] = {}


_lent = _Lent()


def contiguous_map(level: Tensor) -> Tensor:
    """``level.contiguous()`` of a map ``(N, C, h, w)``, whose gradient is channels-last again.

    Torch copies from one format to the other channel by channel, which reads all of the memory each
    time: on a CPU some rows after the other take a fifth of the time.
    """
    if level.device.type != 'cpu' or torch.compiler.is_compiling() or level.is_contiguous():
        return level.contiguous()
    if not (torch.is_grad_enabled() and level.requires_grad):
        return _copy_map(level, torch.contiguous_format)
    return _ContiguousMap.apply(level)


class _ContiguousMap(torch.autograd.Function):
    """A gradient of another format than its map has slows down the norms' backward passes."""

    @staticmethod
    def forward(ctx, level: Tensor) -> Tensor:
        return _copy_map(level, torch.contiguous_format)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return _copy_map(grad, torch.channels_last)


def _copy_map(level: Tensor, memory_format: torch.memory_format) -> Tensor:
    out = torch.empty_like(level, memory_format=memory_format)
    height = level.shape[2]
    rows = max(BLOCK // 2 * height // max(level.numel(), 1), 1)  # so that the cache holds both
    for start in range(0, height, rows):
        out[:, :, start : start + rows] = level[:, :, start : start + rows]
    return out


def map_in_bands(
    function: Callable[[int, int], Tensor],
    rows: int,
    factor: int,
    size: Sequence[int],
    values: int | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """The map that ``function(0, rows)`` is, cropped to ``size``, some rows at a time.

    Args:
        function: computes from the first and after the last of so many rows a part of the map,
            ``(N, C, factor * (last - first), W)``.
        size: height and width of the result.
        values: of a band, by default twice ``BLOCK``.
        memory_format: of the result.
    """
    h, w = size
    values = 2 * BLOCK if values is None else values
    out, first, step = None, 0, 1
    while factor * first < h:
        last = min(first + step, rows)
        band = function(first, last)[..., :w]
        if out is None:
            like = dict(dtype=band.dtype, device=band.device, memory_format=memory_format)
            out = torch.empty(*band.shape[:2], h, w, **like)
            step = max(values // max(band.numel(), 1), 1)
        place = out[:, :, factor * first : factor * last]
        place.copy_(band[:, :, : place.shape[2]])
        first = last
    return out


def block_length(tokens: Tensor) -> int:
    """Tokens of a block, for ``(..., L, C)``."""
    return max(TOKENS * tokens.shape[-2] // max(tokens.numel(), 1), 64)


def can_block(tensor: Tensor) -> bool:
    """Whether blocks can pay: on a CPU, without gradients, and not in compiled code."""
    return (
        tensor.device.type == 'cpu'
        and not torch.is_grad_enabled()
        and not is_counting()
        and not torch.compiler.is_compiling()
    )


@contextmanager
def counting() -> Iterator[None]:
    """Where operations are counted.

    Nothing is done in blocks or bands, some of which overlap, or by kernels that counters do not
    know.
    """
    token = _counting.set(True)
    try:
        yield
    finally:
        _counting.reset(token)


def is_counting() -> bool:
    """Whether operations are being counted just now."""
    return not torch.compiler.is_compiling() and _counting.get()


_counting = ContextVar('counting', default=False)
