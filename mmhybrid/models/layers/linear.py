"""Linear layers by the library that multiplies matrices fastest on this processor."""

import platform
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from .plain import is_plain

LEAST = 1 << 22
"""Multiply-adds of the least product that is worth a call of oneDNN."""

STACKS = (
    '_are_functorch_transforms_active',
    '_len_torch_dispatch_stack',
    '_len_torch_function_stack',
)
"""Where torch says who listens to what it is asked for."""


def fast_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``, in float32 on AMD's processors with AVX-512 by oneDNN.

    Torch multiplies float32 by MKL, which does not use AVX-512 there.

    Args:
        x: ``(..., C)``.
        weight: ``(O, C)``.
        bias: ``(O,)``.
    """
    if torch.compiler.is_compiling() or not (_prefers_onednn() and _fits(x, weight, bias)):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Linear.apply(x, weight, bias)
    return _multiply(x, weight, bias)


def run_linear(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)``, by :func:`fast_linear` if the layer is a plain one."""
    return fast_linear(x, layer.weight, layer.bias) if is_plain(layer, nn.Linear) else layer(x)


@cache
def _prefers_onednn() -> bool:
    """Whether oneDNN is faster here, in a torch that has what this file asks it for."""
    return (
        torch.backends.cpu.get_cpu_capability() == 'AVX512'
        and torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, '_linear_pointwise')
        and all(hasattr(torch._C, name) for name in STACKS)
        and hasattr(forward_ad, '_current_level')
        and _is_amd()
    )


def _is_amd() -> bool:
    info = Path('/proc/cpuinfo')
    return 'AuthenticAMD' in (info.read_text() if info.exists() else platform.processor())


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the product is worth it, and of tensors that do not stand for others.

    Shapes that do not go together are left to torch, whose errors name them.
    """
    if torch.jit.is_tracing() or any(getattr(torch._C, name)() for name in STACKS):
        return False
    tensors = (x, weight) if bias is None else (x, weight, bias)
    return (
        all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)
        and x.dim() > 1
        and x.numel() * len(weight) >= LEAST
        and weight.shape == (len(weight), x.shape[-1])
        and (bias is None or bias.shape == weight.shape[:1])
        and all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors)
        and all(tensor.layout == torch.strided for tensor in tensors)
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled('cpu')
        and forward_ad._current_level < 0  # no gradients forward
    )


def _multiply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    bias = bias if bias is None else bias.contiguous()  # the operator does not ask for its stride
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


class _Linear(torch.autograd.Function):
    """The gradient of the weights is MKL's: oneDNN is slower where it reads columns."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        of_x, of_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if of_weight else None, weight if of_x else None)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        lines = grad.flatten(0, -2)  # (..., O) -> (L, O)
        return (
            fast_linear(grad, weight.T) if of_x else None,
            lines.T @ x.flatten(0, -2) if of_weight else None,
            lines.sum(0) if of_bias else None,
        )
