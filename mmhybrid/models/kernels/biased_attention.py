"""Fused attention with a learned bias for each pair of positions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .graphs import is_transformed, keep_inputs, refuse_second_derivative

ALIGNMENT = 8
"""Numbers of which the width of a head is a multiple in CUDA's kernels, 16 bytes in float16."""
MAX_BAND = 2**24
"""Elements of the attention matrix that a backward pass holds at a time."""


def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Compute ``softmax(scale * q k^T + bias) v`` without its matrix in memory.

    The bias gets its gradient. Torch's fused kernel has one on CUDA alone; elsewhere the backward
    pass computes the matrix again, a band of queries after the other.

    Args:
        q: ``(N, heads, queries, D)``.
        k, v: ``(N, heads, keys, D)``.
        bias: ``(heads, queries, keys)``.
        scale: factor of the products.

    Returns:
        ``(N, heads, queries, D)``
    """
    bias = bias.to(q.dtype)
    if is_transformed():
        return torch.softmax((q @ k.transpose(2, 3)) * scale + bias, dim=-1) @ v
    if q.is_cuda:
        return attend_in_aligned_heads(q, k, v, bias, scale)
    if torch.compiler.is_exporting() or torch.jit.is_tracing():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], scale=scale)
    return torch.ops.mmhybrid.biased_attention(q, k, v, bias, scale)


def attend_in_aligned_heads(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Pad heads of any width, such as 46 (CMT-Ti), with zeros to what CUDA's kernels take.

    Kernels that take a bias read 16 bytes at a time; for other widths torch falls back on one that
    keeps the whole matrix of all pairs.
    """
    width = v.shape[-1]  # q and k may be narrower
    q, k, v = (F.pad(t, (0, pad)) if (pad := -t.shape[-1] % ALIGNMENT) else t for t in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], scale=scale)
    return out[..., :width]


_library = torch.library.Library('mmhybrid', 'FRAGMENT')
_library.define(
    'biased_attention(Tensor q, Tensor k, Tensor v, Tensor bias, float scale) -> Tensor'
)
_library.define(
    'biased_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor bias, float scale)'
    ' -> (Tensor, Tensor, Tensor, Tensor)'
)


@torch.library.impl(_library, 'biased_attention', 'CompositeExplicitAutograd')
def _forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    # With a mask that needs a gradient torch would not choose the fused kernel, even here.
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.detach()[None], scale=scale)
    return out.transpose(1, 2).contiguous().transpose(1, 2)  # as the kernel itself lays it out


@torch.library.impl(_library, 'biased_attention_backward', 'CompositeExplicitAutograd')
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    per_query = q.shape[0] * q.shape[1] * k.shape[2]
    step = max(MAX_BAND // max(per_query, 1), 1)
    grad_q, grad_bias = q.new_empty(q.shape), bias.new_empty(bias.shape)
    grad_k, grad_v = k.new_zeros(k.shape), v.new_zeros(v.shape)
    for start in range(0, q.shape[2], step):
        band = slice(start, start + step)
        grads = band_gradients(grad[:, :, band], q[:, :, band], k, v, bias[:, band], scale)
        grad_q[:, :, band], grad_bias[:, band] = grads[0], grads[3]
        grad_k += grads[1]
        grad_v += grads[2]
    return grad_q, grad_k, grad_v, grad_bias


def band_gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and bias of one band of queries."""
    # (N, heads, queries, keys), as all that follow
    weights = torch.softmax((q @ k.transpose(2, 3)).mul_(scale).add_(bias), dim=-1)
    grad_v = weights.transpose(2, 3) @ grad
    grad_weights = grad @ v.transpose(2, 3)
    grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, q.dtype)
    grad_q = (grad_scores @ k).mul_(scale)
    grad_k = (grad_scores.transpose(2, 3) @ q).mul_(scale)
    return grad_q, grad_k, grad_v, grad_scores.sum(0)


@torch.library.register_fake('mmhybrid::biased_attention', lib=_library)
def _(q, k, v, bias, scale):
    n, heads, queries, _ = q.shape
    return q.new_empty(n, queries, heads, v.shape[3]).transpose(1, 2)


@torch.library.register_fake('mmhybrid::biased_attention_backward', lib=_library)
def _(grad, q, k, v, bias, scale):
    return tuple(tensor.new_empty(tensor.shape) for tensor in (q, k, v, bias))


def _differentiate(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = torch.ops.mmhybrid.biased_attention_backward(grad, *ctx.saved_tensors, ctx.argument)
    return *grads, None


torch.library.register_autograd(
    'mmhybrid::biased_attention', _differentiate, setup_context=keep_inputs, lib=_library
)
refuse_second_derivative('mmhybrid::biased_attention_backward', 'another attention', _library)
