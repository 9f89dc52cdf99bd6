"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159), by mmhybrid's own."""

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .common import shape, without_autocast

_kept_sizes = WeakTensorKeyDictionary()
"""Numbers of tensors of sizes, which all layers of a model share: a GPU is asked once for them."""


@without_autocast
def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Sum of bilinear samples of a token pyramid.

    Args:
        value: ``(N, S, heads, D)``.
        value_spatial_shapes: height and width of each level, ``(levels, 2)``.
        value_level_start_index: first token of each level; they follow one another anyway.
        sampling_locations: ``(N, Q, heads, levels, points, 2)``, x and y as parts of each level.
        attention_weights: ``(N, Q, heads, levels, points)``.
        im2col_step: images that mmcv's operator takes at a time; of no effect.

    Returns:
        ``(N, Q, heads * D)``.

    Raises:
        ValueError: shapes, dtypes or devices do not fit.
    """
    _check(value, value_spatial_shapes, sampling_locations, attention_weights)
    shapes = _sizes(value_spatial_shapes)
    return _attend(value, shapes, sampling_locations, attention_weights).to(value.dtype)


@without_autocast
def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fill the gradients of value, locations and weights of :func:`ms_deform_attn_forward`."""
    inputs = [
        tensor.detach().requires_grad_()
        for tensor in (value, sampling_locations, attention_weights)
    ]
    with torch.enable_grad():
        out = _attend(inputs[0], _sizes(value_spatial_shapes), *inputs[1:])
    grads = torch.autograd.grad(out, inputs, grad_output.to(out.dtype))
    for out, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads, strict=True):
        out.copy_(grad)


def _attend(value: Tensor, shapes: list, locations: Tensor, weights: Tensor) -> Tensor:
    # At the first call: mmhybrid's models import mmengine, which may be what is importing this.
    from mmhybrid.models.layers.deformable_attention import _choose_backend, deformable_attention

    if value.dtype == torch.float64:
        backend = 'grid_sample'  # the others round locations to float32
    else:
        backend = _choose_backend(value)
        if backend == 'mmcv':  # which is this very operator
            backend = 'embedding_bag'
    return deformable_attention(value, shapes, locations, weights, backend)


def _sizes(shapes: Tensor) -> list[list[int]]:
    version = None if shapes.is_inference() else shapes._version
    kept = _kept_sizes.get(shapes)
    if kept is None or kept[0] != version:
        kept = _kept_sizes[shapes] = (version, shapes.tolist())
    return kept[1]


def _check(value: Tensor, sizes: Tensor, locations: Tensor, weights: Tensor) -> None:
    fits = (
        value.dim() == 4
        and sizes.dim() == 2
        and sizes.shape[1] == 2
        and not sizes.is_floating_point()
        and weights.dim() == 5
        and locations.shape == (*weights.shape, 2)
        and weights.shape[0] == value.shape[0]
        and weights.shape[2] == value.shape[2]
        and weights.shape[3] == len(sizes)
        and value.is_floating_point()
        and all(t.dtype == value.dtype and t.device == value.device for t in (locations, weights))
    )
    if not fits:
        raise ValueError(
            'ms_deform_attn: expected a value (N, S, heads, D), whole sizes (levels, 2), locations '
            '(N, Q, heads, levels, points, 2) and weights (N, Q, heads, levels, points), floating '
            f'point of one dtype on one device, got value {shape(value)}, sizes {shape(sizes)}, '
            f'locations {shape(locations)} and weights {shape(weights)}'
        )
