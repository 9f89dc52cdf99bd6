"""Matrix products of linear layers in float32, by the faster library of the processor."""

import platform
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .graphs import is_transformed

LEAST = 1 << 22
"""Multiply-adds of the smallest product that is worth a call of oneDNN."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute ``F.linear``, in float32 on AMD's processors with AVX-512 by oneDNN.

    Torch gives it to MKL, without AVX-512 there: a ViT-S's layers take 1.1 to 1.6 times as long.

    Args:
        x: ``(..., C)``.
        weight: ``(O, C)``.
        bias: ``(O,)``.
    """
    if torch.compiler.is_compiling() or not (_prefers_onednn() and _fits(x, weight, bias)):
        return F.linear(x, weight, bias)
    return torch.ops.mmhybrid.linear(x, weight, bias)


@cache
def _prefers_onednn() -> bool:
    info = Path('/proc/cpuinfo')
    is_amd = 'AuthenticAMD' in (info.read_text() if info.exists() else platform.processor())
    has_both = torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')
    return is_amd and has_both and torch.backends.cpu.get_cpu_capability() == 'AVX512'


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Return True for a large product of plain tensors in float32; torch gives the errors."""
    tensors = (x, weight) if bias is None else (x, weight, bias)
    return (
        not (torch.jit.is_tracing() or is_transformed())
        and all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)
        and all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors)
        and x.dim() > 1
        and x.numel() * len(weight) >= LEAST
        and weight.shape == (len(weight), x.shape[-1])
        and (bias is None or bias.shape == weight.shape[:1])
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled('cpu')
    )


_library = torch.library.Library('mmhybrid', 'FRAGMENT')
_library.define('linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor')


@torch.library.impl(_library, 'linear', 'CPU')
def _forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    bias = None if bias is None else bias.contiguous()  # oneDNN does not ask for its stride
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, 'none', [], '')


def _keep_inputs(ctx, inputs: tuple, output: Tensor) -> None:
    x, weight, _ = inputs
    of_x, of_weight, *_ = ctx.needs_input_grad
    ctx.save_for_backward(x if of_weight else None, weight if of_x else None)


def _differentiate(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    lines = grad.flatten(0, -2)  # (..., O) -> (L, O)
    return (
        linear(grad, weight.T) if weight is not None else None,
        # Of weights by MKL: oneDNN is slower where it reads columns. (..., C) -> (L, C)
        lines.T @ x.flatten(0, -2) if x is not None else None,
        lines.sum(0) if ctx.needs_input_grad[2] else None,
    )


torch.library.register_autograd(
    'mmhybrid::linear', _differentiate, setup_context=_keep_inputs, lib=_library
)
