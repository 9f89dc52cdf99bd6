"""Multi-head self-attention of plain ViTs: global or in windows, through the fused kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .export import first_rows, is_known, pad_to_multiple
from .lean_linear import lean_linear
from .plain import is_plain, what_zeros_become


class Attention(nn.Module):
    """Self-attention over ``(N, P + H * W, C)`` tokens of an ``H x W`` grid with P prefix tokens.

    Args:
        embed_dims: C.
        num_heads: must divide C.
        window: side of the square windows, 0 for global attention. Windows cover the grid from the
            top left; at the right and bottom they are padded with zeros that are *not* masked out,
            as in ViT-Adapter and ViT-CoMer. They need P = 0.
        pad_input: whether the zeros are tokens, of which the projection makes its biases (the BEiT
            of these adapters), or queries, keys and values (their plain ViT).
        qkv_bias: whether the projection has a bias.
        mask_key_bias: hold the key's part of that bias at zero (BEiT, DINOv3).
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
        self.mask_key_bias = mask_key_bias
        self.qkv = nn.Linear(embed_dims, 3 * embed_dims, bias=qkv_bias)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def forward(
        self,
        x: Tensor,
        grid: tuple[int, int],
        bias: Tensor | None = None,
        rope: tuple[Tensor, Tensor] | None = None,
        norm: nn.Module | None = None,
        scale: nn.Module | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x: ``(N, P + H * W, C)``.
            grid: ``(H, W)``.
            bias: relative position bias, ``(heads, L, L)`` with L the tokens of x, or of a window.
            rope: sine and cosine of rotary positions, each ``(H * W, C / heads)``.
            norm: comes first; what it returns is then not kept for the backward pass.
            scale: comes last, likewise.
        """
        n, length, dims = x.shape
        qkv = self._project(x, norm)
        if rope is not None:
            qkv = self._rotate(qkv, rope)
        if self.window:
            return lean_linear(self.proj, self._attend_in_windows(qkv, grid, bias), scale=scale)
        # (N, L, 3 C) -> (3, N, heads, L, C / heads)
        q, k, v = qkv.view(n, length, 3, self.num_heads, self._width(dims)).permute(2, 0, 3, 1, 4)
        bias = None if bias is None else bias.to(q.dtype)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return lean_linear(self.proj, x.transpose(1, 2).reshape(n, length, dims), scale=scale)

    def _width(self, dims: int) -> int:
        """Width of a head: -1 in its place says nothing of a batch without images."""
        return dims // self.num_heads

    def _project(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        bias = what_zeros_become(self.qkv, x) if self.mask_key_bias else None
        if bias is None:
            return lean_linear(self.qkv, x, norm)
        query, key, value = bias.chunk(3)
        masked = torch.cat((query, torch.zeros_like(key), value))
        if is_plain(self.qkv, nn.Linear):
            return lean_linear(self.qkv, x, norm, bias=masked)
        return lean_linear(self.qkv, x, norm) - (bias - masked)

    def _attend_in_windows(self, qkv: Tensor, grid: tuple[int, int], bias: Tensor | None) -> Tensor:
        n, length, dims = qkv.shape
        (h, w), side, heads = grid, self.window, self.num_heads
        qkv = qkv.view(n, h, w, dims)
        below, right = pad_to_multiple(h, side), pad_to_multiple(w, side)
        if self.pad_input:
            padding = self._project(qkv.new_zeros(1, 1, 1, dims // 3)).to(qkv.dtype)
            qkv = torch.cat((qkv, padding.expand(n, h, right, dims)), dim=2)
            qkv = torch.cat((qkv, padding.expand(n, below, w + right, dims)), dim=1)
        else:
            qkv = F.pad(qkv, (0, 0, 0, right, 0, below))
        width = self._width(dims // 3)
        rows, cols = qkv.shape[1] // side, qkv.shape[2] // side
        # (N, rows * side, cols * side, 3 C) -> (3, N * rows * cols, heads, side * side, C / heads)
        qkv = qkv.view(n, rows, side, cols, side, 3, heads, width).permute(5, 0, 1, 3, 6, 2, 4, 7)
        qkv = qkv.contiguous()
        q, k, v = qkv.view(3, n * rows * cols, heads, side * side, width)
        bias = None if bias is None else bias.to(q.dtype)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        # (N * rows * cols, heads, side * side, C / heads) -> (N, rows * side, cols * side, C)
        x = x.view(n, rows, cols, heads, side, side, width).permute(0, 1, 4, 2, 5, 3, 6)
        x = x.contiguous()
        x = x.view(n, rows * side, cols * side, dims // 3)
        x = first_rows(first_rows(x, 1, h), 2, w)
        # Whether that left it contiguous, a graph for images of any size shall not ask.
        x = x.contiguous() if is_known(h, w) else x.clone(memory_format=torch.contiguous_format)
        return x.view(n, length, dims // 3)

    def _rotate(self, qkv: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """Turn the patch tokens' queries and keys by their positions; prefix tokens have none."""
        sin, cos = rope
        n, length, dims = qkv.shape
        qkv = qkv.view(n, length, 3, self.num_heads, self._width(dims // 3))
        qk, v = qkv.split((2, 1), dim=2)
        prefix, qk = qk.split((length - sin.shape[0], sin.shape[0]), dim=1)
        first, second = qk.float().chunk(2, dim=-1)
        turned = torch.cat((-second, first), dim=-1)
        sin, cos = sin[:, None, None], cos[:, None, None]  # (H W, D) -> (H W, 1, 1, D)
        qk = (qk * cos + turned * sin).to(v.dtype)
        return torch.cat((torch.cat((prefix, qk), dim=1), v), dim=2).view(n, length, dims)
