"""Activation checkpointing that leaves batch norms right."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(module: nn.Module, *args):
    """``module(*args)``, whose activations are computed again in the backward pass, not kept.

    Batch norms update their running statistics in the first pass only.
    """
    return checkpoint(
        module, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), _second_pass(module))
    )


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
