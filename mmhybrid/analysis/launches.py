"""Operators that a model asks torch for: on a GPU, about one kernel each."""

from collections import Counter

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

NO_KERNEL = {'aten::_unsafe_view', 'aten::is_same_size', 'aten::empty', 'aten::empty_strided'}
"""Operators that compute nothing, besides those whose schema says that they return a view."""


class LaunchCounter(TorchDispatchMode):
    """Counts operators by name while it is entered, views aside.

    An operator of our own counts as one, whatever it is made of.

    Attributes:
        counts: number of calls of each operator, such as ``'aten::addmm'``.
    """

    def __init__(self):
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        schema = func._schema
        is_view = any(r.alias_info and not r.alias_info.is_write for r in schema.returns)
        if not is_view and schema.name not in NO_KERNEL:
            self.counts[schema.name] += 1
        return func(*args, **(kwargs or {}))


def count_launches(model: nn.Module, image: Tensor) -> Counter[str]:
    """Count the operators of one training step: forward, the sum of all outputs, and backward.

    Args:
        model: a backbone; it is left in training mode, with gradients.
        image: ``(N, C, H, W)``.

    Returns:
        Number of calls of each operator.
    """
    model.train()
    with LaunchCounter() as counter, torch.enable_grad():
        sum(out.sum() for out in model(image)).backward()
    return counter.counts
