"""Activation checkpointing: what is computed again in the backward pass need not be kept."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(function: Callable, *args, owner: nn.Module | None = None):
    """``function(*args)``, whose activations are computed again in the backward pass, not kept.

    The second pass draws the first one's random numbers: what wraps a layer may drop out.

    Args:
        owner: holds the batch norms that run in it, which update their running statistics in the
            first pass only; by default the function itself, a module.
    """
    if torch.compiler.is_compiling():  # a graph updates the statistics once, whatever it recomputes
        return checkpoint(function, *args, use_reentrant=False)
    owner = function if owner is None else owner
    return checkpoint(
        function,
        *args,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _SecondPass(owner)),
    )


def lean(function: Callable, *args, owner: nn.Module | None = None):
    """``function(*args)``, of which the backward pass keeps the arguments alone.

    For norms, activations and the like that end in one expensive layer: the second pass stops
    where all that the first one would have kept is there again, which is before that layer runs.
    Compiled code is left to the compiler, which does the same by itself.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return function(*args)
    owner = nn.Identity() if owner is None else owner
    return recompute(function, *args, owner=owner)


class _SecondPass:
    """A context in which batch norms do as in the first pass and leave their statistics alone.

    It is made in the first pass, and entered anew each time that gradients flow through the graph:
    by then the model may be in evaluation mode.
    """

    def __init__(self, module: nn.Module):
        modules = module.modules()
        norms = [m for m in modules if isinstance(m, _BatchNorm) and m.track_running_stats]
        self.norms = [(norm, norm.training) for norm in norms]

    def __enter__(self) -> None:
        self.before = []
        for norm, was_training in self.norms:
            changing = [norm.num_batches_tracked]
            if norm.momentum is None:  # the mean over all batches
                changing += norm.running_mean, norm.running_var
            values = [(buffer, buffer.clone()) for buffer in changing]
            self.before.append((norm, norm.training, norm.momentum, values))
            norm.training = was_training
            norm.momentum = None if norm.momentum is None else 0.0

    def __exit__(self, *error) -> None:
        for norm, training, momentum, values in self.before:
            norm.training, norm.momentum = training, momentum
            for buffer, value in values:
                buffer.copy_(value)
