"""Activation checkpointing: compute activations again in the backward pass, to save memory."""

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

EXPENSIVE = (
    'mm', 'addmm', 'bmm', 'baddbmm', 'linear', 'convolution', 'sample_in_bags', 'biased_attention',
    'deformable_sample',
)  # fmt: skip
"""Operators whose results ``'light'`` keeps, beside torch's fused attention."""
LEAST = 64
"""Multiply-adds a value of a convolution that is kept: depth-wise ones are as cheap as norms."""
SUMS = ('add', 'cat', 'clone', '_unsafe_view')
"""Operators whose gradients read no value, as those of views."""


def recompute(module: nn.Module, *args: Any, light: bool = False) -> Any:
    """Run ``module(*args)`` and compute its activations again in the backward pass.

    The second run draws the first one's random numbers, and batch norms update their running
    statistics in the first run only. Without gradients, the module just runs.

    Args:
        light: keep the results of :data:`EXPENSIVE` operators and compute the rest again, norms,
            activations and sums. Gradients then flow once: torch drops what it kept as it takes it.
    """
    if not torch.is_grad_enabled():
        return module(*args)
    if torch.compiler.is_compiling():  # a graph updates the statistics once, whatever it recomputes
        contexts = partial(create_selective_checkpoint_contexts, _policy)
        options: dict = dict(context_fn=contexts) if light else {}
        return checkpoint(module, *args, use_reentrant=False, **options)
    first = last = None

    def both_runs() -> tuple[AbstractContextManager, AbstractContextManager]:
        nonlocal first
        runs = create_selective_checkpoint_contexts(policy) if light else noop_context_fn()
        first, second = runs
        return first, _SecondRun(module, second)

    def policy(ctx, operator, *args, **kwargs) -> CheckpointPolicy:
        nonlocal last  # expensive operator that only sums follow
        chosen = _policy(ctx, operator, *args, **kwargs)
        if chosen is CheckpointPolicy.MUST_SAVE:
            last = operator
        elif not operator.is_view and operator._overloadpacket.__name__ not in SUMS:
            last = None
        return chosen

    out = checkpoint(module, *args, use_reentrant=False, context_fn=both_runs)
    kept = None if last is None else first.storage[last][-1]
    if kept is not None and not isinstance(kept, tuple):  # attention's own gradient reads its tuple
        # No gradient reads this result, and the second run stops at its product: an empty one
        # takes its place.
        kept.val = kept.val.new_empty(()).expand(kept.val.shape)
    return out


def _policy(ctx, operator, *args, **kwargs) -> CheckpointPolicy:
    name = operator._overloadpacket.__name__
    is_expensive = name in EXPENSIVE or name.startswith('_scaled_dot_product')
    if name == 'convolution':  # its second argument is the weight
        is_expensive = args[1].shape[1:].numel() >= LEAST
    return CheckpointPolicy.MUST_SAVE if is_expensive else CheckpointPolicy.PREFER_RECOMPUTE


class _SecondRun:
    """A context in which batch norms normalise as in the first run and keep their statistics.

    Made in the first run, entered in the second ones, by when the model may be in evaluation mode.

    Args:
        module: holds the batch norms.
        inner: is entered with it.
    """

    def __init__(self, module: nn.Module, inner: AbstractContextManager):
        self.inner = inner
        modules = module.modules()
        norms = [m for m in modules if isinstance(m, _BatchNorm) and m.track_running_stats]
        self.norms = [(norm, norm.training) for norm in norms]

    def __enter__(self) -> None:
        self.before = []
        for norm, was_training in self.norms:
            values = [(buffer, buffer.clone()) for buffer in norm.buffers()]
            self.before.append((norm, norm.training, values))
            norm.training = was_training
        self.inner.__enter__()

    def __exit__(self, *error) -> None:
        self.inner.__exit__(*error)
        for norm, training, values in self.before:
            norm.training = training
            for buffer, value in values:
                buffer.copy_(value)
