"""Sizes that may be symbols: graphs of ``torch.compile`` and ``torch.export`` for any image."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def takes_operators() -> bool:
    """Return True while torch compiles a graph, which may hold operators of our own."""
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()


def is_transformed() -> bool:
    """Return True in torch.func or forward gradients, which operators of our own do not have."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def keep_inputs(ctx: Any, inputs: tuple, output: Tensor) -> None:
    """Keep an operator's tensors and its last argument for the backward pass."""
    *tensors, ctx.argument = inputs
    ctx.save_for_backward(*tensors)


def refuse_second_derivative(name: str, instead: str, library: torch.library.Library) -> None:
    """Make the gradient of a backward operator an error that says what to use instead."""

    def refuse(ctx, *grads):
        raise RuntimeError(f'{name} has no gradient: for gradients of gradients use {instead}')

    torch.library.register_autograd(name, refuse, lib=library)


def is_known(*sizes: int) -> bool:
    """Return True if all sizes are numbers: in a graph for images of any size they are symbols."""
    if torch.compiler.is_compiling():  # there, symbols pass for int
        from torch.fx.experimental.symbolic_shapes import has_static_value

        return all(has_static_value(size) for size in sizes)
    return all(isinstance(size, int) for size in sizes)


def pad_to_multiple(size: int, multiple: int) -> int:
    """Return the padding to the next multiple, in a form that exporters can reason about."""
    return (size + multiple - 1) // multiple * multiple - size


def first_rows(tensor: Tensor, dim: int, count: int) -> Tensor:
    """Take the first ``count`` rows along a dimension.

    Torch's compiler asks of a view whether it is contiguous. Where sizes are symbols, the answer
    would bind the graph to images like this one: there the rows are gathered.
    """
    if is_known(count, tensor.shape[dim]) or not takes_operators():
        return tensor.narrow(dim, 0, count)
    return tensor.index_select(dim, torch.arange(count, device=tensor.device))
