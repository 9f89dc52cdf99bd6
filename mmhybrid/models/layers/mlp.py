"""Feed-forward networks of plain ViTs."""

import torch.nn.functional as F
from torch import Tensor, nn

from .lean_linear import gated_silu, lean_linear


class Mlp(nn.Module):
    """Two linear layers with GELU between them.

    ``forward`` takes tokens and perhaps a norm that comes first and a scale that comes last; what
    the norm, GELU and, before a scale, the last layer return is not kept for the backward pass.
    """

    def __init__(self, embed_dims: int, hidden_dims: int):
        super().__init__()
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.fc2 = nn.Linear(hidden_dims, embed_dims)

    def forward(
        self, x: Tensor, norm: nn.Module | None = None, scale: nn.Module | None = None
    ) -> Tensor:
        hidden = lean_linear(self.fc1, x, norm)
        return lean_linear(self.fc2, hidden, F.gelu, scale=scale)


class SwiGLU(nn.Module):
    """Gated feed-forward network of DINOv2-g and of some DINOv3 sizes (arXiv 2002.05202).

    ``hidden_dims`` is what an :class:`Mlp` would have; the gated hidden width is two thirds of it,
    rounded up to a multiple of 8, which keeps the number of parameters.
    """

    def __init__(self, embed_dims: int, hidden_dims: int):
        super().__init__()
        gated_dims = (int(hidden_dims * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(embed_dims, 2 * gated_dims)
        self.w3 = nn.Linear(gated_dims, embed_dims)

    def forward(
        self, x: Tensor, norm: nn.Module | None = None, scale: nn.Module | None = None
    ) -> Tensor:
        hidden = lean_linear(self.w12, x, norm)
        return lean_linear(self.w3, hidden, gated_silu, scale=scale)
