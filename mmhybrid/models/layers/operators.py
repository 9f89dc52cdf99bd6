"""Operators, which ``torch.compile`` puts into its graphs as they are.

What they do runs in blocks, whose number follows from the size of the image: a graph would fix it.
They are imported by compiled code alone; eager code calls the functions behind them, since torch's
operators in Python import its whole compiler.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import deformable_bags, pair_bias

# Deformable attention as embedding bags


@torch.library.custom_op('mmhybrid::bag_samples', mutates_args=())
def bag_samples(value: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]) -> Tensor:
    """See :func:`.deformable_attention`; ``sizes`` are height and width of one level after another.

    The value is ``(N, S, heads * D)``: of four dimensions, the compiler would take it for a map.
    Locations and weights are float32.
    """
    value = _of_heads(value, weights)
    return deformable_bags.sample_blocks(value, _pairs(sizes), locations, weights)


@bag_samples.register_fake
def _(value: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]) -> Tensor:
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2])


@torch.library.custom_op('mmhybrid::bag_value_gradient', mutates_args=())
def _bag_value_gradient(
    grad: Tensor, value: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]
) -> Tensor:
    inputs = _gradient_inputs(grad, value, sizes, locations, weights)
    return deformable_bags.value_gradient(*inputs).flatten(2)


@_bag_value_gradient.register_fake
def _(grad, value, locations, weights, sizes):
    return value.new_empty(value.shape)


@torch.library.custom_op('mmhybrid::bag_sample_gradients', mutates_args=())
def _bag_sample_gradients(
    grad: Tensor, value: Tensor, locations: Tensor, weights: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor]:
    inputs = _gradient_inputs(grad, value, sizes, locations, weights)
    return deformable_bags.sample_gradients(*inputs)


@_bag_sample_gradients.register_fake
def _(grad, value, locations, weights, sizes):
    return locations.new_empty(locations.shape), weights.new_empty(weights.shape)


def _bag_gradients(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    value, locations, weights = ctx.saved_tensors
    inputs = (grad, value, locations, weights, ctx.argument)
    of_value, of_locations, of_weights, _ = ctx.needs_input_grad
    grad_value = _bag_value_gradient(*inputs) if of_value else None
    grads = (None, None)
    if of_locations or of_weights:
        grads = _bag_sample_gradients(*inputs)
    return grad_value, *grads, None


def _gradient_inputs(
    grad: Tensor, value: Tensor, sizes: list[int], locations: Tensor, weights: Tensor
) -> tuple:
    value = _of_heads(value, weights)
    return deformable_bags.of_heads(grad, value), value, _pairs(sizes), locations, weights


def _of_heads(value: Tensor, weights: Tensor) -> Tensor:
    return value.unflatten(2, (weights.shape[2], -1))


def _pairs(sizes: list[int]) -> tuple[tuple[int, int], ...]:
    return tuple(zip(sizes[::2], sizes[1::2], strict=True))


# Attention with a bias that has a gradient


@torch.library.custom_op('mmhybrid::biased_attention', mutates_args=())
def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    """See :class:`.pair_bias.BiasedAttention`."""
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], scale=scale)
    return out.transpose(1, 2).contiguous().transpose(1, 2)  # which the kernel does on its own


@biased_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    n, heads, queries, _ = q.shape
    return q.new_empty(n, queries, heads, v.shape[3]).transpose(1, 2)


@torch.library.custom_op('mmhybrid::biased_attention_gradients', mutates_args=())
def _attention_gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    of_a_query = q.shape[0] * q.shape[1] * k.shape[2]
    step = max(pair_bias.MAX_BAND // max(of_a_query, 1), 1)
    grad_q, grad_bias = q.new_empty(q.shape), bias.new_empty(bias.shape)
    grad_k, grad_v = k.new_zeros(k.shape), v.new_zeros(v.shape)
    for start in range(0, q.shape[2], step):
        rows = slice(start, start + step)
        of_q, of_k, of_v, of_bias = pair_bias.attention_gradients(
            grad[:, :, rows], q[:, :, rows], k, v, bias[:, rows], scale
        )
        grad_q[:, :, rows], grad_bias[:, rows] = of_q, of_bias
        grad_k += of_k
        grad_v += of_v
    return grad_q, grad_k, grad_v, grad_bias


@_attention_gradients.register_fake
def _(grad, q, k, v, bias, scale):
    return tuple(tensor.new_empty(tensor.shape) for tensor in (q, k, v, bias))


def _biased_attention_gradients(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *_attention_gradients(grad, *ctx.saved_tensors, ctx.argument), None


def _keep_inputs(ctx, inputs: tuple, output: Tensor) -> None:
    *tensors, ctx.argument = inputs
    ctx.save_for_backward(*tensors)


bag_samples.register_autograd(_bag_gradients, setup_context=_keep_inputs)
biased_attention.register_autograd(_biased_attention_gradients, setup_context=_keep_inputs)
