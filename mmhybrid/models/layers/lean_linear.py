"""Linear layers of which the backward pass keeps less than autograd would."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .layer_scale import LayerScale
from .linear import fast_linear, run_linear
from .plain import is_plain
from .recompute import lean

Before = Callable[[Tensor], Tensor]


def gated_silu(hidden: Tensor) -> Tensor:
    """``silu(gate) * value`` of gate and value side by side, ``(..., 2 C)`` to ``(..., C)``."""
    gate, value = hidden.chunk(2, dim=-1)
    return F.silu(gate) * value


def _gated_silu_backward(grad: Tensor, hidden: Tensor) -> Tensor:
    gate, value = hidden.chunk(2, dim=-1)
    of_gate = torch.ops.aten.silu_backward(grad * value, gate)
    return torch.cat((of_gate, grad * F.silu(gate)), dim=-1)


BACKWARD = {F.gelu: torch.ops.aten.gelu_backward, gated_silu: _gated_silu_backward}
"""Activations and their gradients, of the gradient of the result and the input."""


def lean_linear(
    linear: nn.Module,
    x: Tensor,
    *before: Before | None,
    bias: Tensor | None = None,
    scale: nn.Module | None = None,
) -> Tensor:
    """``scale(linear(before(x)))``, of which the backward pass keeps ``x`` alone.

    What norms and activations return is computed again. The gradient of a scale would need what the
    linear layer returns; that of a factor of its weights follows from theirs, and so a learned
    scale becomes one.

    Plain layers (LayerNorm, the activations of ``BACKWARD``, LayerScale of full precision) are
    differentiated here, in fewer steps than a checkpoint takes; what wraps one, has hooks or is of
    another kind is called, twice.

    Args:
        linear: ``(..., C)`` to ``(..., O)``.
        before: layers and functions of each token alone that come first, one after the other; None
            stands for nothing.
        bias: in the place of that of the linear layer, a plain one.
        scale: comes last.
    """
    before = tuple(layer for layer in before if layer is not None)
    # A trace takes no function of our own that is given layers.
    is_recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if not torch.is_grad_enabled() or is_recorded:
        x = _chain(before, x)
        out = run_linear(linear, x) if bias is None else fast_linear(x, linear.weight, bias)
        return out if scale is None else scale(out)
    if not is_plain(linear, nn.Linear):
        out = lean(lambda x: linear(_chain(before, x)), x) if before else linear(x)
        return out if scale is None else scale(out)
    bias = linear.bias if bias is None else bias
    folds = scale is not None and _can_fold(linear, scale)
    gamma = scale.gamma if folds else None
    if not before and not folds:
        out = fast_linear(x, linear.weight, bias)
    elif all(map(_is_known, before)):
        norms = [layer for layer in before if isinstance(layer, nn.LayerNorm)]
        parameters = [p for norm in norms for p in (norm.weight, norm.bias)]
        out = LeanLinear.apply(x, linear.weight, bias, gamma, before, *parameters)
    else:
        out = lean(
            lambda x: fast_linear(_chain(before, x), *_scaled(linear.weight, bias, gamma)), x
        )
    return out if folds or scale is None else scale(out)


def _chain(layers: tuple[Before, ...], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _scaled(
    weight: Tensor, bias: Tensor | None, gamma: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Weights and bias of ``gamma * linear(x)``."""
    if gamma is None:
        return weight, bias
    return gamma.unsqueeze(1) * weight, None if bias is None else gamma * bias


def _is_known(layer: Before) -> bool:
    return layer in BACKWARD or isinstance(layer, nn.Module) and is_plain(layer, nn.LayerNorm)


def _can_fold(linear: nn.Linear, scale: nn.Module) -> bool:
    return (
        is_plain(scale, LayerScale)
        and scale.gamma.requires_grad
        and linear.weight.dtype.itemsize >= 4  # in less, the product would lose digits
    )


class LeanLinear(torch.autograd.Function):
    """See :func:`lean_linear`; ``norms`` are weight and bias of each LayerNorm before."""

    @staticmethod
    def forward(ctx, x, weight, bias, gamma, before, *norms):
        ctx.save_for_backward(x, weight, bias, gamma, *norms)
        ctx.before, ctx.dtypes = before, []
        for layer in before:
            x = layer(x)
            ctx.dtypes.append(x.dtype)  # autocast may run a norm in another than that of its input
        return fast_linear(x, *_scaled(weight, bias, gamma))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, weight, bias, gamma, *norms = ctx.saved_tensors
        of_x, of_weight, of_bias, of_gamma, _, *of_norms = ctx.needs_input_grad
        y, steps = _run_again(ctx.before, ctx.dtypes, x, norms)

        grad_weight = grad_bias = grad_gamma = None
        lines = grad.flatten(0, -2)  # (..., O) -> (L, O)
        if of_weight or of_gamma:
            grad_weight = lines.T @ y.to(grad.dtype).flatten(0, -2)
        if bias is not None and (of_bias or of_gamma):
            grad_bias = lines.sum(0)
        if of_gamma:
            grad_gamma = (grad_weight * weight).sum(1)
            if bias is not None:
                grad_gamma += grad_bias * bias
        if gamma is not None:
            grad_weight = grad_weight * gamma.unsqueeze(1) if of_weight else None
            grad_bias = grad_bias * gamma if bias is not None and of_bias else None

        grad_norms = [None] * len(norms)
        if of_x or any(of_norms):
            grad = fast_linear(grad, _scaled(weight, None, gamma)[0].to(grad.dtype).T)
            grad = _differentiate(grad, steps, of_x, of_norms, grad_norms)
        return grad if of_x else None, grad_weight, grad_bias, grad_gamma, None, *grad_norms


def _run_again(
    before: tuple[Before, ...], dtypes: list[torch.dtype], x: Tensor, norms: list[Tensor]
) -> tuple[Tensor, list[tuple]]:
    """What ``before`` makes of x, and for each of its steps what the gradient needs."""
    steps, norms = [], iter(norms)
    for layer, dtype in zip(before, dtypes, strict=True):
        x = x.to(dtype)
        if layer in BACKWARD:
            steps.append((layer, x))
            x = layer(x)
        else:
            own = next(norms), next(norms)
            y, *statistics = torch.native_layer_norm(x, layer.normalized_shape, *own, layer.eps)
            steps.append((layer, x, *statistics, *own))
            x = y
    return x, steps


def _differentiate(
    grad: Tensor,
    steps: list[tuple],
    of_x: bool,
    of_norms: list[bool],
    grad_norms: list[Tensor | None],
) -> Tensor:
    """The gradient of x from that of what ``steps`` make of it; those of the norms are put in."""
    i = len(of_norms)
    for layer, x, *rest in reversed(steps):
        if layer in BACKWARD:
            grad = BACKWARD[layer](grad, x)
            continue
        i -= 2
        wanted = [of_x or any(of_norms[:i]), *of_norms[i : i + 2]]
        grad, *grad_norms[i : i + 2] = torch.ops.aten.native_layer_norm_backward(
            grad.to(x.dtype), x, layer.normalized_shape, *rest, wanted
        )
    return grad
