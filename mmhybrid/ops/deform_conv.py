"""Deformable convolution (arXiv 1703.06211) and its modulated form (arXiv 1811.11168)."""

import torch
import torchvision  # noqa: F401, registers the operators
from torch import Tensor

from .common import can_read, check_alike, full, shape, without_autocast


@without_autocast
def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Convolve at places that are moved by offsets.

    Args:
        input: ``(N, C, H, W)``.
        weight: ``(O, C / group, kH, kW)``.
        offset: ``(N, deformable_group * kH * kW * 2, H_out, W_out)``, y and x of each place.
        output: ``(N, O, H_out, W_out)``, filled.
        columns, ones: buffers of mmcv's operator; unused.
        kW, kH, dW, dH, padW, padH, dilationW, dilationH: kernel, stride, padding, dilation.
        im2col_step: images that mmcv's operator takes at a time; of no effect.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, or, on a CPU, an offset is not a number.
    """
    steps = (dH, dW, padH, padW, dilationH, dilationW)
    _check('deform_conv', input, weight, offset, None, steps, group, deformable_group)
    output.copy_(_run(input, weight, offset, None, None, (*steps, group, deformable_group)))


@without_autocast
def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Fill the gradients of input and offset of :func:`deform_conv_forward`."""
    options = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    grads = _run_backward(gradOutput, input, weight, offset, None, options)
    gradInput.copy_(grads[0])
    gradOffset.copy_(grads[2])
    # mmcv asks for the weight's gradient next, with this buffer. It has been computed with the
    # others, and waits there.
    columns.resize_(weight.shape).copy_(grads[1])


@without_autocast
def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add ``scale`` times the gradient of the weight of :func:`deform_conv_forward`."""
    if columns.shape == gradWeight.shape:
        grad = columns
    else:  # neither input nor offset has a gradient
        options = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
        grad = _run_backward(gradOutput, input, gradWeight, offset, None, options)[1]
    gradWeight.add_(grad.to(gradWeight.dtype), alpha=scale)


@without_autocast
def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Convolve at places that are moved by offsets, and weighted.

    Args:
        input, weight, offset, output, ones, columns: as for :func:`deform_conv_forward`.
        bias: ``(O,)``, unused without ``with_bias``.
        mask: weight of each place, ``(N, deformable_group * kernel_h * kernel_w, H_out, W_out)``.

    Raises:
        ValueError: as for :func:`deform_conv_forward`.
    """
    steps = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w)
    _check('modulated_deform_conv', input, weight, offset, mask, steps, group, deformable_group)
    options = (*steps, group, deformable_group)
    output.copy_(_run(input, weight, offset, mask, bias if with_bias else None, options))


@without_autocast
def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill the gradients of :func:`modulated_deform_conv_forward`."""
    steps = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w)
    options = (*steps, group, deformable_group)
    grads = _run_backward(grad_output, input, weight, offset, mask, options)
    outs = (grad_input, grad_weight, grad_offset, grad_mask)
    for out, grad in zip(outs, grads, strict=True):
        out.copy_(grad)
    if with_bias:
        grad_bias.copy_(full(grad_output).sum((0, 2, 3)))


def _run(input, weight, offset, mask, bias, options) -> Tensor:
    if not input.numel():  # of no images
        return input.new_zeros(0, weight.shape[0], *offset.shape[2:])
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    tensors = map(full, (input, weight, offset, _mask(input, mask), bias))
    return torch.ops.torchvision.deform_conv2d(*tensors, *options, mask is not None)


def _run_backward(grad, input, weight, offset, mask, options) -> tuple[Tensor, ...]:
    """Gradients of input, weight, offset and mask."""
    if not input.numel():
        inputs = (input, weight, offset, _mask(input, mask))
        return tuple(torch.zeros_like(tensor) for tensor in inputs)
    bias = weight.new_zeros(len(weight))
    inputs = (grad, input, weight, offset, _mask(input, mask), bias)
    tensors = (full(tensor).contiguous() for tensor in inputs)
    grads = torch.ops.torchvision._deform_conv2d_backward(*tensors, *options, mask is not None)
    grads[2].masked_fill_(_outside(input, weight, offset, options), 0)
    return grads[:4]


def _outside(input: Tensor, weight: Tensor, offset: Tensor, options: tuple) -> Tensor:
    """Mask, of the offset's shape, of the places that do not lie on the map.

    Exactly one pixel outside of it, where padding places those of an offset of 0, the derivative
    jumps: mmcv takes 0 and torchvision that of the side of the map.
    """
    outsides = []
    # (N, deformable_group kH kW 2, H_out, W_out) -> (N, groups, places, H_out, W_out) of y and of x
    places = full(offset).unflatten(1, (options[7], -1, 2)).unbind(3)
    for axis, place in enumerate(places):
        stride, pad, dilation = options[axis], options[2 + axis], options[4 + axis]
        kernel = torch.arange(weight.shape[2 + axis], device=offset.device) * dilation - pad
        # all places of the kernel, by rows
        other = weight.shape[3 - axis]
        kernel = kernel.repeat(other) if axis else kernel.repeat_interleave(other)
        out = torch.arange(offset.shape[2 + axis], device=offset.device) * stride
        out = out if axis else out.unsqueeze(1)  # (W_out,) or (H_out, 1)
        place = place + (kernel.view(-1, 1, 1) + out)
        outsides.append((place <= -1) | (place >= input.shape[2 + axis]))
    is_outside = (outsides[0] | outsides[1]).unsqueeze(3)
    # (N, groups, places, 1, H_out, W_out) -> (N, groups places 2, H_out, W_out)
    return is_outside.expand(-1, -1, -1, 2, -1, -1).flatten(1, 3)


def _mask(input: Tensor, mask: Tensor | None) -> Tensor:
    """The mask, or the tensor that torchvision's operator expects for none."""
    return input.new_zeros(len(input), 1) if mask is None else mask


def _check(operator, input, weight, offset, mask, steps, group, deformable_group) -> None:
    tensors = dict(input=input, weight=weight, offset=offset)
    if mask is not None:
        tensors['mask'] = mask
    check_alike(operator, **tensors)
    listed = ', '.join(f'{name} {shape(tensor)}' for name, tensor in tensors.items())
    if any(tensor.dim() != 4 for tensor in tensors.values()):
        raise ValueError(f'{operator}: expected tensors of four dimensions, got {listed}')
    kernel, channels = tuple(weight.shape[2:]), input.shape[1]
    out = [
        (input.shape[2 + i] + 2 * steps[2 + i] - steps[4 + i] * (kernel[i] - 1) - 1) // steps[i] + 1
        for i in (0, 1)
    ]
    places = deformable_group * kernel[0] * kernel[1]
    expected = dict(offset=(len(input), 2 * places, *out), mask=(len(input), places, *out))
    if (
        channels != weight.shape[1] * group
        or len(weight) % group
        or channels % deformable_group
        or min(out) < 1
        or any(tuple(tensors[name].shape) != expected[name] for name in expected if name in tensors)
    ):
        raise ValueError(
            f'{operator}: tensors do not fit together in {group} groups, {deformable_group} of '
            f'them deformable: {listed}; expected an offset {expected["offset"]}'
            + (f' and a mask {expected["mask"]}' if mask is not None else '')
        )
    if can_read(offset) and offset.isnan().any():
        raise ValueError(
            f'{operator}: {int(offset.isnan().sum())} offsets are not numbers, of {listed}; a '
            'training that gives them has diverged: try a lower learning rate'
        )
