"""Activation checkpointing: what is computed again in the backward pass need not be kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(function: Callable, *args, owner: nn.Module | None = None, is_random: bool = True):
    """``function(*args)``, whose activations are computed again in the backward pass, not kept.

    Args:
        owner: holds the batch norms that run in it, which update their running statistics in the
            first pass only; by default the function itself, a module.
        is_random: whether the second pass has to draw the first one's random numbers again.
    """
    if torch.compiler.is_compiling():  # a graph updates the statistics once, whatever it recomputes
        return checkpoint(function, *args, use_reentrant=False)
    owner = function if owner is None else owner
    return checkpoint(
        function,
        *args,
        use_reentrant=False,
        preserve_rng_state=is_random,
        context_fn=lambda: (nullcontext(), _second_pass(owner)),
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
    return recompute(function, *args, owner=owner, is_random=False)


@contextmanager
def _second_pass(module: nn.Module) -> Iterator[None]:
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
