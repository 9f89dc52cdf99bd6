"""A learned bias for each pair of a query and a key position, for grids of any size."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from .blocks import borrow
from .export import is_known, resize_bicubic, takes_operators

Grid = tuple[int, int]

MAX_WHOLE = 2**27
"""Largest bias that is resized in one piece; larger ones are resized band by band."""
MAX_CACHED = 2**26
"""Elements of resized biases that a module keeps in evaluation mode, over all sizes."""
ALIGNMENT = 8
"""Numbers of which the width of a head is a multiple in CUDA's kernels, 16 bytes in float16."""
MAX_BAND = 2**24
"""Elements of bias, or in training of attention, that are worked on at a time."""


class GridBias:
    """The bias of one query and key grid, in bands of query rows.

    Either ``whole``, ``(heads, H * W, keys)``, is at hand, or ``resize_rows(first, last)`` makes
    the rows asked for, ``(heads, (last - first) * W, keys)``.
    """

    def __init__(
        self,
        query_grid: Grid,
        shape: tuple[int, int, int],
        *,
        whole: Tensor | None = None,
        resize_rows: Callable[[int, int], Tensor] | None = None,
    ):
        self.query_grid = query_grid
        self.shape = shape
        self.whole = whole
        self._resize_rows = resize_rows

    def bands(self, rows: int) -> list[Callable[[], Tensor]]:
        """For each band of so many query rows, the function that gives its bias."""
        h, w = self.query_grid
        if self.whole is not None and rows >= h:  # the gradient of a split would be a copy
            return [partial(_identity, self.whole)]
        if self.whole is not None:
            return [partial(_identity, band) for band in self.whole.split(rows * w, dim=1)]
        return [
            partial(self._resize_rows, first, min(first + rows, h)) for first in range(0, h, rows)
        ]


class ResizedTables:
    """The last sizes of one table, up to ``MAX_CACHED`` elements, for all threads.

    They are those of the table they were made of: of this tensor, not of one at the same address,
    unchanged since and where it was. Copies and pickles are empty.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._tables: OrderedDict[tuple[Grid, Grid], Tensor] = OrderedDict()
            self._source, self._state = lambda: None, None

    def get(self, table: Tensor, grids: tuple[Grid, Grid]) -> Tensor | None:
        """The table for a query and a key grid, where it is kept."""
        with self._lock:
            if not self._is_of(table) or grids not in self._tables:
                return None
            self._tables.move_to_end(grids)
            return self._tables[grids]

    def keep(self, table: Tensor, grids: tuple[Grid, Grid], resized: Tensor) -> None:
        """Keep what a table has become, perhaps in the place of the sizes asked for longest ago."""
        if resized.numel() > MAX_CACHED:
            return
        with self._lock:
            if not self._is_of(table):
                self._tables = OrderedDict()
                self._source, self._state = weakref.ref(table), _state(table)
            self._tables[grids] = resized
            while sum(kept.numel() for kept in self._tables.values()) > MAX_CACHED:
                self._tables.popitem(last=False)

    def __len__(self) -> int:
        return len(self._tables)

    def __reduce__(self):
        return ResizedTables, ()

    def _is_of(self, table: Tensor) -> bool:
        return self._source() is table and self._state == _state(table)


def _state(table: Tensor) -> tuple:
    return table.data_ptr(), table._version, table.device, table.dtype


class PairBias(nn.Module):
    """Bias ``(heads, queries, keys)`` of one training size, resized to any other.

    The table is a function of two places, one on the query grid and one on the key grid.
    ``resize='separable'`` resamples it along each of the four sides, bicubic. ``'flat'`` treats the
    flattened table as one image, as the CMT paper's sentence can be read: it scrambles columns as
    soon as the width changes, and is there to reproduce such runs.

    In evaluation mode, where no gradient is recorded, the last sizes' resized tables are kept, up
    to ``MAX_CACHED`` elements. They are dropped when the table changes and by ``train()`` and
    ``eval()``. Only writing through ``table.data`` in evaluation mode goes unseen: call ``eval()``
    after it.

    Args:
        query_grid, key_grid: ``(h, w)`` of the training size.
        num_heads: heads.
        resize: ``'separable'`` or ``'flat'``.
    """

    def __init__(
        self,
        query_grid: Grid,
        key_grid: Grid,
        num_heads: int,
        *,
        resize: Literal['separable', 'flat'] = 'separable',
    ):
        super().__init__()
        if resize not in ('separable', 'flat'):
            raise ValueError(f"bias_resize={resize!r}: expected 'separable' or 'flat'")
        self.query_grid, self.key_grid = query_grid, key_grid
        self.resize = resize
        queries, keys = query_grid[0] * query_grid[1], key_grid[0] * key_grid[1]
        self.table = nn.Parameter(torch.randn(num_heads, queries, keys))
        self._cache = ResizedTables()

    def forward(self, query_grid: Grid, key_grid: Grid) -> GridBias:
        shape = (
            len(self.table),
            query_grid[0] * query_grid[1],
            key_grid[0] * key_grid[1],
        )
        size = shape[0] * shape[1] * shape[2]
        whole, resize_rows = None, None
        grids, own_grids = (query_grid, key_grid), (self.query_grid, self.key_grid)
        if is_known(*query_grid, *key_grid) and grids == own_grids:
            whole = self.table
        elif torch.compiler.is_compiling():  # one graph for all sizes, which keeps nothing
            whole = self._resize(query_grid, key_grid)
        elif size > MAX_WHOLE and self.resize == 'separable':
            resize_rows = self._row_resizer(query_grid, key_grid)
        elif self.training or torch.is_grad_enabled() or self.table.is_inference():
            # In inference tensors no change could be seen.
            whole = self._resize(query_grid, key_grid)
        else:
            whole = self._cached(query_grid, key_grid)
        return GridBias(query_grid, shape, whole=whole, resize_rows=resize_rows)

    def train(self, mode: bool = True):
        self._cache.clear()
        return super().train(mode)

    def _resize(self, query_grid: Grid, key_grid: Grid) -> Tensor:
        if self.resize == 'flat':
            size = (query_grid[0] * query_grid[1], key_grid[0] * key_grid[1])
            return resize_bicubic(self.table[None].float(), size)[0]
        return self._row_resizer(query_grid, key_grid)(0, query_grid[0])

    def _row_resizer(self, query_grid: Grid, key_grid: Grid) -> Callable[[int, int], Tensor]:
        """The key grid is resized at once, the larger query grid as rows are asked for."""
        with _full_precision(self.table.device):
            table = self.table.float()
            to_keys = _bicubic_grid(self.key_grid, key_grid, table)
            # (heads, Q, K) -> (heads, Q, K') -> (heads, h, w K')
            table = (table @ to_keys.T).reshape(len(table), self.query_grid[0], -1)
        to_rows = _bicubic(self.query_grid[0], query_grid[0], table)
        to_columns = _bicubic(self.query_grid[1], query_grid[1], table)

        def resize_rows(first: int, last: int) -> Tensor:
            with _full_precision(table.device):
                rows = to_rows[first:last] @ table  # (heads, rows, w K')
                # (heads, rows, w K') -> (heads, rows, w, K') -> (heads, rows, w', K')
                rows = to_columns @ rows.unflatten(2, (self.query_grid[1], -1))
                return rows.flatten(1, 2)  # (heads, rows, w', K') -> (heads, rows w', K')

        return resize_rows

    def _cached(self, query_grid: Grid, key_grid: Grid) -> Tensor:
        table, grids = self.table, (query_grid, key_grid)
        whole = self._cache.get(table, grids)
        if whole is None:
            # Outside inference mode, or a later pass that records gradients could not use it.
            with torch.inference_mode(False), torch.no_grad():
                whole = self._resize(query_grid, key_grid)
            self._cache.keep(table, grids, whole)
        return whole

    def extra_repr(self) -> str:
        (h, w), (key_h, key_w) = self.query_grid, self.key_grid
        return f'{h}x{w} queries, {key_h}x{key_w} keys, resize={self.resize!r}'


def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: GridBias, scale: float) -> Tensor:
    """``softmax(scale * q k^T + bias) v`` through the fused kernel, without its matrix in memory.

    Backward passes that give the gradient of a bias hold the matrix; of more than ``MAX_BAND``
    elements, bands of queries are attended to one after another.

    Args:
        q: ``(N, heads, queries, D)``; k, v: ``(N, heads, keys, D)``.
        bias: of the same heads, queries and keys.
        scale: factor of the products.

    Returns:
        ``(N, heads, queries, D)``
    """
    if torch.compiler.is_compiling():
        return _attend(q, k, v, partial(_identity, bias.whole), scale)
    h, w = bias.query_grid
    heads, _, keys = bias.shape
    recorded = torch.is_grad_enabled()
    rows = h
    if recorded or bias.whole is None:
        rows = max(MAX_BAND // max((len(q) if recorded else 1) * heads * w * keys, 1), 1)
    if rows >= h:
        return _attend(q, k, v, bias.bands(h)[0], scale)
    attend = _attend
    if recorded and bias.whole is None:  # keep no band's bias, resize it again
        attend = partial(checkpoint, _attend, use_reentrant=False)
    bands = zip(q.split(rows * w, dim=2), bias.bands(rows), strict=True)
    return torch.cat([attend(band, k, v, band_bias, scale) for band, band_bias in bands], dim=2)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Callable[[], Tensor], scale: float) -> Tensor:
    bias = bias().to(q.dtype)
    if bias.requires_grad and not bias.is_cuda:
        if takes_operators():
            from .operators import biased_attention

            return biased_attention(q, k, v, bias, scale)
        return BiasedAttention.apply(q, k, v, bias, scale)
    attend = F.scaled_dot_product_attention
    if q.is_cuda and q.shape[-1] % ALIGNMENT:
        attend = attend_in_aligned_heads
    return attend(q, k, v, attn_mask=bias[None], scale=scale)


def attend_in_aligned_heads(
    q: Tensor, k: Tensor, v: Tensor, *, attn_mask: Tensor, scale: float
) -> Tensor:
    """Fused attention of heads of any width, such as 46 (CMT-Ti), which are padded with zeros.

    CUDA's kernels that take a bias read 16 bytes at a time; torch would turn to one that keeps the
    whole matrix of all pairs.
    """
    width = q.shape[-1]
    q, k, v = (F.pad(t, (0, -width % ALIGNMENT)) for t in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, scale=scale)
    return out[..., :width]


class BiasedAttention(torch.autograd.Function):
    """The fused kernel with the gradient of its bias, which torch has for CUDA alone.

    The backward pass makes the attention matrix anew, so that none is kept.
    """

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
        # torch leaves its fused kernel for any bias that says it needs a gradient.
        mask = bias.detach()[None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        ctx.save_for_backward(q, k, v, bias)
        ctx.scale = scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *attention_gradients(grad, *ctx.saved_tensors, ctx.scale), None


def attention_gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k, v and bias."""
    # (N, heads, queries, keys), each product in one piece of memory
    weights = borrow(q, *q.shape[:3], k.shape[2]).copy_(bias)
    weights.flatten(0, 1).baddbmm_(*_batches(q, k.transpose(2, 3)), alpha=scale)
    torch.softmax(weights, dim=-1, out=weights)
    grad_v = weights.transpose(2, 3) @ grad
    grad_scores = grad @ v.transpose(2, 3)
    torch.ops.aten._softmax_backward_data.out(
        grad_scores, weights, -1, q.dtype, grad_input=grad_scores
    )
    grad_q = (grad_scores @ k).mul_(scale)
    grad_k = (grad_scores.transpose(2, 3) @ q).mul_(scale)
    # No view, so that the next block's gradient is added in its place.
    grad_bias = grad_scores.squeeze_(0) if len(q) == 1 else grad_scores.sum(0)
    return grad_q, grad_k, grad_v, grad_bias


def _batches(*tensors: Tensor) -> list[Tensor]:
    """``(N, heads, ...)`` as ``(N heads, ...)``."""
    return [tensor.flatten(0, 1) for tensor in tensors]


def _bicubic(old: int, new: int, like: Tensor) -> Tensor:
    """Matrix ``(new, old)`` that resizes one side as ``F.interpolate`` does."""
    units = torch.eye(old, device=like.device, dtype=like.dtype)
    # A line of unit values a channel: (old, old) -> (1, old, old, 1) -> (1, old, new, 1)
    lines = resize_bicubic(units[None, :, :, None], (new, 1))
    return lines[0, :, :, 0].T


def _bicubic_grid(old: Grid, new: Grid, like: Tensor) -> Tensor:
    """Matrix ``(h' w', h w)`` that resizes both sides of a flattened grid."""
    rows, columns = (_bicubic(*sides, like) for sides in zip(old, new, strict=True))
    # (h', w', h, w), then flattened. Not torch.kron: exporters fix its sizes to the example's.
    return (rows[:, None, :, None] * columns[:, None]).flatten(2).flatten(0, 1)


def _full_precision(device: torch.device) -> AbstractContextManager:
    """No autocast, on devices that have it (meta has none)."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _identity(tensor: Tensor) -> Tensor:
    return tensor
