"""Learned scales of residual branches."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .plain import is_plain
from .recompute import lean


class LayerScale(nn.Module):
    """Learned scale of each channel of a residual branch (arXiv 2103.17239)."""

    def __init__(self, embed_dims: int, initial: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((embed_dims,), float(initial)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def scaled_linear(
    linear: nn.Module,
    scale: nn.Module | None,
    x: Tensor,
    before: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """``scale(linear(before(x)))``; both ``scale`` and ``before`` may be missing.

    The gradient of a scale needs what the layer returns; that of a factor of the layer's weights
    follows from theirs. So a learned scale becomes one, where layer and scale are plain ones of
    full precision, and the backward pass keeps ``x`` alone.
    """
    if _can_fold(linear, scale):
        return lean(lambda x: _product(linear, scale, x if before is None else before(x)), x)
    out = linear(x) if before is None else lean(lambda x: linear(before(x)), x)
    return out if scale is None else scale(out)


def _product(linear: nn.Linear, scale: LayerScale, x: Tensor) -> Tensor:
    bias = None if linear.bias is None else scale.gamma * linear.bias
    return F.linear(x, scale.gamma.unsqueeze(1) * linear.weight, bias)


def _can_fold(linear: nn.Module, scale: nn.Module | None) -> bool:
    return (
        torch.is_grad_enabled()
        and scale is not None
        and is_plain(linear, nn.Linear)
        and is_plain(scale, LayerScale)
        and scale.gamma.requires_grad
        and linear.weight.dtype.itemsize >= 4  # in less, the product would lose digits
    )
