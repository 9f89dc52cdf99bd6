"""Multi-head self-attention of plain ViTs: global or in windows, through the fused kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels import Grid, first_rows, is_known, linear, pad_to_multiple
from .linear import Linear


class QKVLinear(Linear):
    """Projection to queries, keys and values side by side, ``(..., C)`` to ``(..., 3 C)``.

    Args:
        mask_key_bias: hold the key's part of the bias at zero (BEiT, DINOv3).
    """

    def __init__(self, embed_dims: int, bias: bool = True, mask_key_bias: bool = False):
        super().__init__(embed_dims, 3 * embed_dims, bias)
        self.mask_key_bias = mask_key_bias

    def forward(self, x: Tensor) -> Tensor:
        if not self.mask_key_bias or self.bias is None:
            return super().forward(x)
        query, key, value = self.bias.chunk(3)
        return linear(x, self.weight, torch.cat((query, torch.zeros_like(key), value)))


class Attention(nn.Module):
    """Self-attention over ``(N, P + H * W, C)`` tokens of an ``H x W`` grid with P prefix tokens.

    Args:
        embed_dims: C.
        num_heads: must divide C.
        window: side of the square windows, 0 for global attention. Windows cover the grid from the
            top left; at the right and bottom they are padded with zeros that are *not* masked out,
            as in ViT-Adapter and ViT-CoMer. They need P = 0.
        pad_input: pad tokens with those zeros, which the projection maps to its biases (the BEiT
            of these adapters), instead of queries, keys and values (their other ViTs).
        qkv_bias: give the projection a bias.
        mask_key_bias: see :class:`QKVLinear`.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        *,
        window: int = 0,
        pad_input: bool = False,
        qkv_bias: bool = True,
        mask_key_bias: bool = False,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        self.pad_input = pad_input
        self.qkv = QKVLinear(embed_dims, qkv_bias, mask_key_bias)
        self.proj = Linear(embed_dims, embed_dims)

    def forward(
        self,
        x: Tensor,
        grid: Grid,
        bias: Tensor | None = None,
        rope: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Let each token attend to all, or to those of its window.

        Args:
            x: ``(N, P + H * W, C)``.
            grid: ``(H, W)``.
            bias: relative position bias, ``(heads, L, L)`` with L the tokens of x, or of a window.
            rope: sine and cosine of rotary positions, each ``(H * W, C / heads)``.
        """
        if self.window and self.pad_input:
            x = split_windows(x, grid, self.window)
        qkv = self.qkv(x)
        if rope is not None:
            qkv = self._rotate(qkv, rope)
        if self.window and not self.pad_input:
            qkv = split_windows(qkv, grid, self.window)
        # (N, L, 3 C) -> (3, N, heads, L, C / heads); N counts windows where there are any
        q, k, v = qkv.unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        bias = None if bias is None else bias.to(q.dtype)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x.transpose(1, 2).flatten(2)  # (N, heads, L, C / heads) -> (N, L, C)
        if self.window:
            x = join_windows(x, grid, self.window)
        return self.proj(x)

    def _rotate(self, qkv: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """Turn the patch tokens' queries and keys by their positions; prefix tokens have none."""
        sin, cos = rope
        # (N, L, 3 C) -> (N, L, 3, heads, C / heads)
        qk, v = qkv.unflatten(2, (3, self.num_heads, -1)).split((2, 1), dim=2)
        prefix, qk = qk.split((qkv.shape[1] - sin.shape[0], sin.shape[0]), dim=1)
        first, second = qk.float().chunk(2, dim=-1)
        turned = torch.cat((-second, first), dim=-1)
        sin, cos = sin[:, None, None], cos[:, None, None]  # (H W, D) -> (H W, 1, 1, D)
        qk = (qk * cos + turned * sin).to(v.dtype)
        # (N, L, 3, heads, C / heads) -> (N, L, 3 C)
        return torch.cat((torch.cat((prefix, qk), dim=1), v), dim=2).flatten(2)


def split_windows(x: Tensor, grid: Grid, side: int) -> Tensor:
    """Cut tokens ``(N, H * W, C)`` into windows ``(N * windows, side * side, C)``, zero-padded."""
    n, _, dims = x.shape
    below, right = (pad_to_multiple(length, side) for length in grid)
    x = F.pad(x.unflatten(1, grid), (0, 0, 0, right, 0, below))  # (N, H W, C) -> (N, H, W, C)
    rows, cols = x.shape[1] // side, x.shape[2] // side
    # (N, rows * side, cols * side, C) -> (N, rows, cols, side, side, C) -> (N windows, side^2, C)
    x = x.view(n, rows, side, cols, side, dims).transpose(2, 3)
    x = x.clone(memory_format=torch.contiguous_format)  # see join_windows
    return x.reshape(n * rows * cols, side * side, dims)


def join_windows(x: Tensor, grid: Grid, side: int) -> Tensor:
    """Join windows ``(N * windows, side * side, C)`` to tokens ``(N, H * W, C)``, unpadded."""
    (h, w), dims = grid, x.shape[2]
    # Not -(-h // side): exported files round negative quotients towards zero.
    rows, cols = (h + side - 1) // side, (w + side - 1) // side
    n = x.shape[0] // (rows * cols)
    # (N windows, side^2, C) -> (N, rows, side, cols, side, C) -> (N, rows * side, cols * side, C)
    x = x.view(n, rows, cols, side, side, dims).transpose(2, 3)
    # Where sizes are symbols, reshape and contiguous would ask how x lies in memory, which binds a
    # graph to images like this one; clone does not.
    x = x.clone(memory_format=torch.contiguous_format)
    x = x.reshape(n, rows * side, cols * side, dims)
    x = first_rows(first_rows(x, 1, h), 2, w)
    if not is_known(h, w):
        x = x.clone(memory_format=torch.contiguous_format)
    return x.reshape(n, h * w, dims)  # (N, H, W, C) -> (N, H W, C)
