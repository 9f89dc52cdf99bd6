"""Layers that are run by their weights, not by being called."""

from torch import Tensor, nn


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


def what_zeros_become(linear: nn.Module, like: Tensor) -> Tensor | None:
    """The bias of a linear layer, also of what wraps one and has no such attribute.

    Args:
        like: an input of the layer, ``(..., C)``.

    Returns:
        ``(O,)``, or None where there is no bias.
    """
    if is_plain(linear, nn.Linear):
        return linear.bias
    return linear(like.new_zeros(1, like.shape[-1])).squeeze(0)
