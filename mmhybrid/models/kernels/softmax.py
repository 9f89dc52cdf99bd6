"""Softmax over few values."""

import torch
from torch import Tensor


def short_softmax(x: Tensor) -> Tensor:
    """Compute the softmax over a short last dimension, such as the samples of a query.

    On a CPU torch takes one row after the other, which leaves its vectors half empty: over 12
    values, eight rows side by side take a ninth of the time.

    Args:
        x: ``(..., S)``.
    """
    if x.device.type != 'cpu' or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return x.softmax(-1)
    columns = x.flatten(0, -2).T.contiguous()  # (..., S) -> (S, rows)
    return columns.softmax(0).T.reshape(x.shape)  # (S, rows) -> (..., S)
