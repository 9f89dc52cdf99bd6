"""Multiply-adds of a model, with those that torch's counter does not know."""

from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverloadPacket
from torch.utils.flop_counter import FlopCounterMode

from mmhybrid.models.kernels.deformable_attention import triton_kernels


def count_macs(model: nn.Module, *inputs: Any, forward: Callable | None = None) -> int:
    """Multiply-adds of one forward pass: matrix products, convolutions, fused and deformable
    attention. Norms, activations and resizing are not counted, as usual; nor is mmcv's operator.

    Args:
        model: in the mode it is to be counted in.
        inputs: of ``forward``, by default the model itself.
    """
    counter = FlopCounterMode(display=False, custom_mapping=formulas())
    with torch.no_grad(), counter:
        (forward or model)(*inputs)
    return counter.get_total_flops() // 2


def _linear(x, weight, *args, out_shape=None, **kwargs) -> int:
    """FLOPs of a linear layer, ``(..., C)`` by ``(O, C)``."""
    return 2 * prod(x) * weight[0]


def _fused_attention(query, key, value, *args, out_shape=None, **kwargs) -> int:
    """Count the FLOPs of the two products of attention, ``(N, heads, L, D)``."""
    *batch, length, dims = query
    return 2 * prod(batch) * length * key[-2] * (dims + value[-1])


def _biased_attention(q, k, v, *args, out_shape=None, **kwargs) -> int:
    return _fused_attention(q, k, v)


def _bilinear_samples(value, weights) -> int:
    """Count the FLOPs of weighted sums of bilinear samples, of four pixels each."""
    heads = weights[2]
    return 2 * 4 * prod(weights) * (value[2] // heads if len(value) == 3 else value[3])


def _sample_in_bags(value, points, offsets, weights, *args, out_shape=None, **kwargs) -> int:
    return _bilinear_samples(value, weights)


def _deformable_sample(value, locations, weights, *args, out_shape=None, **kwargs) -> int:
    return _bilinear_samples(value, weights)


def _sample_gradients(grad, value, locations, weights, *args, out_shape=None, **kwargs) -> int:
    """Count the FLOPs of the gradients of locations and weights, or of those of values."""
    return _bilinear_samples(value, weights)


def _bags_gradients(grad, value, points, offsets, weights, *args, out_shape=None, **kwargs) -> int:
    return 2 * _bilinear_samples(value, weights)


def _biased_attention_gradients(grad, q, k, v, *args, out_shape=None, **kwargs) -> int:
    """Count the FLOPs of five products, of which one computes the scores again."""
    return _fused_attention(q, k, v) * 2 + _fused_attention(q, k, [0])


def _convolution_gradients(
    grad, x, weight, bias, stride, padding, dilation, transposed, out_padding, groups, wanted,
    out_shape=None,
) -> int:  # fmt: skip
    """Count the FLOPs of a convolution for each gradient; torch's formula leaves groups out."""
    places = (x if transposed else grad)[2:]
    return sum(wanted[:2]) * 2 * x[0] * prod(places) * prod(weight)


def _grid_sample(maps, grid, *args, out_shape=None, **kwargs) -> int:
    """Count the FLOPs of bilinear samples of four pixels each."""
    return 2 * 4 * maps[0] * maps[1] * prod(grid[1:-1])


@cache
def formulas() -> dict[OpOverloadPacket, Callable[..., int]]:
    """Return the formulas of the operators that torch's counter does not know."""
    known: dict[OpOverloadPacket, Callable[..., int]] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _fused_attention,
        torch.ops.aten.grid_sampler_2d: _grid_sample,
        torch.ops.mmhybrid.linear: _linear,
        torch.ops.mmhybrid.biased_attention: _biased_attention,
        torch.ops.mmhybrid.sample_in_bags: _sample_in_bags,
        torch.ops.aten.convolution_backward: _convolution_gradients,
        torch.ops.mmhybrid.biased_attention_backward: _biased_attention_gradients,
        torch.ops.mmhybrid.sample_in_bags_backward: _bags_gradients,
    }
    if triton_kernels() is not None:
        known[torch.ops.mmhybrid.deformable_sample] = _deformable_sample
        known[torch.ops.mmhybrid.deformable_sample_gradients] = _sample_gradients
        known[torch.ops.mmhybrid.deformable_value_gradient] = _sample_gradients
    return known
