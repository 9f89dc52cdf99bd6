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

EXPENSIVE = {
    'aten': (
        'mm', 'addmm', 'bmm', 'baddbmm', 'convolution',
        '_scaled_dot_product_flash_attention_for_cpu',
        '_scaled_dot_product_flash_attention',
        '_scaled_dot_product_efficient_attention',
        '_scaled_dot_product_cudnn_attention',
    ),
    'mmhybrid': ('linear', 'sample_in_bags', 'biased_attention', 'deformable_sample'),
}  # fmt: skip
"""Operators by namespace whose results ``'light'`` keeps: products, convolutions, attention."""


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
    contexts = noop_context_fn
    if light:
        contexts = partial(create_selective_checkpoint_contexts, _policy)
    if torch.compiler.is_compiling():  # a graph updates the statistics once, whatever it recomputes
        options: dict = dict(context_fn=contexts) if light else {}
        return checkpoint(module, *args, use_reentrant=False, **options)

    def both_runs() -> tuple[AbstractContextManager, AbstractContextManager]:
        first, second = contexts()
        return first, _SecondRun(module, second)

    return checkpoint(module, *args, use_reentrant=False, context_fn=both_runs)


def _policy(ctx, operator, *args, **kwargs) -> CheckpointPolicy:
    is_expensive = operator._overloadpacket.__name__ in EXPENSIVE.get(operator.namespace, ())
    return CheckpointPolicy.MUST_SAVE if is_expensive else CheckpointPolicy.PREFER_RECOMPUTE


class _SecondRun:
    """A context in which batch norms normalise as in the first run and keep their statistics.

    It is made in the first run and entered in the second, or in several: by then the model may be
    in evaluation mode.

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
            changing: list[Any] = [norm.num_batches_tracked]
            if norm.momentum is None:  # the mean over all batches
                changing += norm.running_mean, norm.running_var
            values = [(buffer, buffer.clone()) for buffer in changing]
            self.before.append((norm, norm.training, norm.momentum, values))
            norm.training = was_training
            norm.momentum = None if norm.momentum is None else 0.0
        self.inner.__enter__()

    def __exit__(self, *error) -> None:
        self.inner.__exit__(*error)
        for norm, training, momentum, values in self.before:
            norm.training, norm.momentum = training, momentum
            for buffer, value in values:
                buffer.copy_(value)
