"""Learned scales of residual branches."""

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """Learned scale of each channel of a residual branch (arXiv 2103.17239)."""

    def __init__(self, embed_dims: int, initial: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((embed_dims,), float(initial)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma
