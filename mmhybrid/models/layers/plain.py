"""Layers that are run by their weights, not by being called."""

from torch import nn


def is_plain(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a layer is of one of these types itself, not what wraps one, and has no hooks.

    Then calling it does what its type says and nothing else.
    """
    hooks = (
        layer._forward_pre_hooks,
        layer._forward_hooks,
        layer._backward_pre_hooks,
        layer._backward_hooks,
    )
    return type(layer) in kinds and not any(hooks)
