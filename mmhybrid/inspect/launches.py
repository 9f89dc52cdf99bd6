"""Operators that a model asks torch for: on a GPU, about one kernel each."""

from collections import Counter
from collections.abc import Callable
from typing import Any

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

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        schema = func._schema
        is_view = any(r.alias_info and not r.alias_info.is_write for r in schema.returns)
        if not is_view and schema.name not in NO_KERNEL:
            self.counts[schema.name] += 1
        return func(*args, **(kwargs or {}))


def count_launches(model: nn.Module, loss: Callable[[], Tensor]) -> Counter[str]:
    """Count the operators of one training step, forward and backward, without the optimizer's.

    Widths of layers do not change the number, and sizes of images only where something is resized
    or padded.

    Args:
        model: is in training mode for the step; its mode and gradients are then as before.
        loss: runs the forward pass and returns the scalar that is differentiated.

    Returns:
        Number of calls of each operator; views count as none.
    """
    was_training = model.training
    before = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in before:
        parameter.grad = None  # torch would add to it
    try:
        model.train()
        with LaunchCounter() as counter, torch.enable_grad():
            value = loss()
            if value.requires_grad:  # unless everything is frozen
                value.backward()
    finally:
        model.train(was_training)
        for parameter, grad in before:
            parameter.grad = grad
    return counter.counts
