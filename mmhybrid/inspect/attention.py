"""Attention maps: the weights that a model's tokens give to places of the image."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmhybrid.models import kernels  # noqa: F401  registers the operator that is recorded

Grid = tuple[int, int]
MAX_PREFIX = 8
"""Most class, distillation and register tokens that a sequence is expected to begin with."""


@dataclass(frozen=True)
class AttentionMap:
    """One token's attention in one attention module.

    Attributes:
        name: of the module.
        weights: ``(heads, h, w)``, over the grid of keys; NaN outside the token's window.
        prefix: ``(heads, P)``, over class and register tokens.
        grid: ``(H, W)``, that of the queries.
        cell: row and column of the token in it.
    """

    name: str
    weights: Tensor
    prefix: Tensor
    grid: Grid
    cell: Grid


def attention_maps(
    model: nn.Module, image: Tensor, at: tuple[float, float] = (0.5, 0.5)
) -> list[AttentionMap]:
    """Compute where the token at a place of the image attends, in every attention of a model.

    Fused attention gives no weights. They are computed again, for this token alone, from the
    queries, keys and biases that torch's ``scaled_dot_product_attention`` is called with, so models
    of any library that call it can be looked into. Windows are placed on the image for mmhybrid's
    own modules only.

    Args:
        image: ``(1, C, H, W)``; of sides that the model pads, places are those of the padded image.
        at: x and y of the place, each from 0 to 1.

    Returns:
        A map for each module, in the order they run; empty where nothing could be placed.
    """
    x, y = at
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f'at={at}: expected x and y from 0 to 1')
    height, width = image.shape[2:]
    recorder = _Recorder((height, width), at)
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(recorder.enter(name), with_kwargs=True))
        handles.append(module.register_forward_hook(recorder.leave, always_call=True))
    try:
        with torch.no_grad(), recorder:
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return recorder.maps


@dataclass
class _Call:
    """A module that is running: its name, itself, and the grid it was told."""

    name: str
    module: nn.Module
    grid: Grid | None


class _Recorder(TorchFunctionMode):
    """Sees every call of the fused attention, and which module makes it."""

    def __init__(self, image_size: Grid, at: tuple[float, float]):
        super().__init__()
        self.image_size = image_size
        self.at = at
        self.running: list[_Call] = []
        self.maps: list[AttentionMap] = []

    def enter(self, name: str):
        def hook(module, args, kwargs):
            self.running.append(_Call(name, module, _told_grid([*args, *kwargs.values()])))

        return hook

    def leave(self, module, args, output):
        self.running.pop()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self.running:
            self._record(*args, **kwargs)
        elif func is torch.ops.mmhybrid.biased_attention and self.running:
            query, key, value, bias, scale = args
            self._record(query, key, value, bias[None], scale=scale)
        return func(*args, **kwargs)

    def _record(self, query, key, value, attn_mask=None, *, scale=None, **_):
        call = self.running[-1]
        window = getattr(call.module, 'window', 0)
        if isinstance(window, int) and window and call.grid:
            self._place_window(call, window, query, key, attn_mask, scale)
        elif query.ndim == 4 and query.shape[0] == 1:
            self._place(call, query, key, attn_mask, scale)

    def _place(self, call, query, key, mask, scale):
        """Record global attention."""
        if call.grid is not None:
            grid = call.grid
            prefix = max(query.shape[2] - grid[0] * grid[1], 0)
        else:
            grid, prefix = guess_grid(query.shape[2], self.image_size)
        if grid is None:
            return
        keys = key_grid(key.shape[2] - prefix, grid)
        if keys is None:
            return
        cell = self._cell(grid)
        row = prefix + cell[0] * grid[1] + cell[1]
        weights = attention_row(query, key, mask, scale, row)[0]  # (heads, P + h w)
        patches = weights[:, prefix:].unflatten(1, keys)
        self.maps.append(AttentionMap(call.name, patches, weights[:, :prefix], grid, cell))

    def _place_window(self, call, side, query, key, mask, scale):
        """Place mmhybrid's windows: by rows from the top left, padded at the right and bottom."""
        h, w = call.grid
        y, x = self._cell(call.grid)
        index = y // side * -(-w // side) + x // side
        row = y % side * side + x % side
        if mask is not None and mask.ndim == 4 and mask.shape[0] > 1:
            mask = mask[index, None]
        one = slice(index, index + 1)
        weights = attention_row(query[one], key[one], mask, scale, row)[0]
        top, left = y // side * side, x // side * side
        rows, columns = min(side, h - top), min(side, w - left)
        patches = weights.new_full((len(weights), h, w), torch.nan)
        patches[:, top : top + rows, left : left + columns] = weights.unflatten(1, (side, side))[
            :, :rows, :columns
        ]
        self.maps.append(AttentionMap(call.name, patches, weights[:, :0], (h, w), (y, x)))

    def _cell(self, grid: Grid) -> Grid:
        x, y = self.at
        return min(int(y * grid[0]), grid[0] - 1), min(int(x * grid[1]), grid[1] - 1)


def attention_row(
    query: Tensor, key: Tensor, mask: Tensor | None, scale: float | None, row: int
) -> Tensor:
    """Compute the weights ``(N, heads, keys)`` of one query as torch's fused attention does."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query[..., row : row + 1, :].float() * scale) @ key.float().transpose(-2, -1)
    if mask is not None:
        mask = mask[..., row : row + 1, :] if mask.shape[-2] > 1 else mask
        scores = (
            scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        )
    return scores.softmax(dim=-1)[..., 0, :].cpu()


def _told_grid(values: list) -> Grid | None:
    """Return the grid among a module's arguments: a pair of ints, else the sides of a map."""
    for value in values:
        if isinstance(value, (tuple, list)) and len(value) == 2:
            if all(isinstance(side, int) for side in value):
                return value[0], value[1]
    if values and isinstance(values[0], Tensor) and values[0].ndim == 4:
        height, width = values[0].shape[2:]
        return height, width
    return None


def guess_grid(tokens: int, image_size: Grid) -> tuple[Grid | None, int]:
    """Guess the grid that so many tokens of an image make, and the number of tokens before it.

    ``(None, 0)`` where no grid has cells that are about square.
    """
    height, width = image_size
    for prefix in range(min(MAX_PREFIX, tokens - 1) + 1):
        patches = tokens - prefix
        for h in range(1, patches + 1):
            if patches % h == 0 and abs(height / h * (patches // h) / width - 1) < 0.1:
                return (h, patches // h), prefix
    return None, 0


def key_grid(tokens: int, grid: Grid) -> Grid | None:
    """Return the keys' grid: that of the queries, or smaller by a whole number; else None."""
    for factor in range(1, max(grid) + 1):
        for h, w in (
            (-(-grid[0] // factor), -(-grid[1] // factor)),
            (grid[0] // factor, grid[1] // factor),
        ):
            if h * w == tokens:
                return h, w
    return None
