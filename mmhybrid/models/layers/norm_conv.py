"""GELU, batch norm, convolution: in training the norm works through the convolution's weights."""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .blocks import BLOCK
from .pointwise_conv import PointwiseConv, ResidualDWConv
from .recompute import lean


def gelu_norm_conv(x: Tensor, norm: nn.Module, conv: nn.Module) -> Tensor:
    """``conv(norm(gelu(x)))`` of a map ``(N, C, H, W)``, which is all that backward keeps of it.

    Once its statistics are known a batch norm is a scale and a shift of each channel, and those a
    convolution can do: what was a pass over the map is one over the weights. Backward, too, the
    gradients of scale, shift and statistics follow from those of the weights. So it is in training
    on a CPU, for convolutions that pad with zeros; anywhere else the layers run as they are.
    """
    if not torch.is_grad_enabled():
        # Maps are large here: the input's memory is used again.
        return conv(norm(torch.ops.aten.gelu_(x)))
    if not _can_fold(x, norm, conv):
        return lean(lambda x: conv(norm(F.gelu(x))), x, owner=norm)
    if isinstance(conv, PointwiseConv):
        weight, stride, padding, groups = conv.weight[:, :, None, None], (1, 1), (0, 0), 1
    else:
        weight = conv.kernel() if isinstance(conv, ResidualDWConv) else conv.weight
        stride, padding, groups = conv.stride, conv.padding, conv.groups
    norm.num_batches_tracked.add_(1)
    return GeluNormConv.apply(
        x, norm.weight, norm.bias, weight, conv.bias, norm, stride, padding, groups
    )


def _can_fold(x: Tensor, norm: nn.Module, conv: nn.Module) -> bool:
    return (
        type(norm) is nn.BatchNorm2d
        and _is_plain(conv)
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and x.device.type == 'cpu'
        and x.dtype == norm.weight.dtype
        and x.numel() > x.shape[1]  # of one value there is no variance, which the norm says
        and not torch.is_autocast_enabled('cpu')
        and not torch.compiler.is_compiling()
    )


def _is_plain(conv: nn.Module) -> bool:
    if type(conv) in (nn.Conv2d, ResidualDWConv):
        zeros = conv.padding_mode == 'zeros' and not isinstance(conv.padding, str)
        return zeros and conv.dilation == (1, 1)
    return type(conv) is PointwiseConv  # not what wraps one of them


class GeluNormConv(torch.autograd.Function):
    """See :func:`gelu_norm_conv`. Here ``y = gelu(x)`` and ``z = scale * y + shift`` its norm."""

    @staticmethod
    def forward(ctx, x, gamma, beta, weight, bias, norm, stride, padding, groups):
        x = x.contiguous(memory_format=torch.channels_last)
        y = F.gelu(x)
        mean, var = torch.batch_norm_update_stats(
            y, norm.running_mean, norm.running_var, norm.momentum
        )
        rstd = (var + norm.eps).rsqrt()
        scale = gamma * rstd
        shift = beta - mean * scale
        # What the shift adds to an output through each place of the kernel: (O, kh, kw)
        taps = (_grouped(weight, groups) * _of_inputs(shift, groups)).sum(2).flatten(0, 1)
        offset = taps.sum((1, 2))
        bias = offset if bias is None else bias + offset
        out = _conv(y, _scaled(weight, scale, groups), bias, (stride, padding, groups))
        border = _border(x.shape[2:], weight.shape[2:], stride, padding, x.dtype)
        _take_from_border(out, taps, border)
        ctx.save_for_backward(x, gamma, beta, weight, mean, rstd)
        ctx.conv = stride, padding, groups
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, gamma, beta, weight, mean, rstd = ctx.saved_tensors
        stride, padding, groups = ctx.conv
        grad = grad.contiguous(memory_format=torch.channels_last)
        y = _gelu_less(mean, x)
        scale = gamma * rstd
        # The kernel's products with y, from which all gradients of weights follow. With a y that
        # is not centred they would be small differences of large sums.
        grad_y, products, grad_bias = _conv_backward(
            grad, y, _scaled(weight, scale, groups), ctx.conv
        )
        border = _border(x.shape[2:], weight.shape[2:], stride, padding, x.dtype)
        sums = _grouped(_sums_of_taps(grad, grad_bias, border)[:, None], groups)

        products, kernels = _grouped(products, groups), _grouped(weight, groups)
        grad_gamma = rstd * (kernels * products).sum((1, 3, 4)).flatten()
        grad_beta = (kernels * sums).sum((1, 3, 4)).flatten()
        products.mul_(_of_inputs(scale, groups)).addcmul_(_of_inputs(beta, groups), sums)
        grad_weight = products.view(weight.shape)

        # All of y moves mean and variance: the norm's own share is a line in y.
        count = y.numel() // y.shape[1]
        slope, level = -scale * rstd * grad_gamma / count, -scale * grad_beta / count
        grad_x = _add_line_through_gelu(grad_y, y, x, slope, level)
        grad_bias = grad_bias if ctx.needs_input_grad[4] else None
        return grad_x, grad_gamma, grad_beta, grad_weight, grad_bias, None, None, None, None


def _grouped(weight: Tensor, groups: int) -> Tensor:
    """``(O, C / groups, kh, kw)`` -> ``(groups, O / groups, C / groups, kh, kw)``"""
    return weight.unflatten(0, (groups, -1))


def _of_inputs(values: Tensor, groups: int) -> Tensor:
    """One value of each input channel, to go with grouped weights."""
    return values.view(groups, 1, -1, 1, 1)


def _scaled(weight: Tensor, scale: Tensor, groups: int) -> Tensor:
    return (_grouped(weight, groups) * _of_inputs(scale, groups)).flatten(0, 1)


class Border(NamedTuple):
    """The rows and columns of an output for which the kernel reaches into padding."""

    rows: list[int]
    cols: list[int]
    over_rows: Tensor
    """``(kh, len(rows))``: 1 where a place of the kernel lies on padding."""
    over_cols: Tensor
    """``(kw, len(cols))``"""


@lru_cache(maxsize=256)
def _border(size, kernel, stride, padding, dtype) -> Border | None:
    if not any(padding):
        return None

    def of_side(i: int) -> tuple[list[int], Tensor]:
        length = (size[i] + 2 * padding[i] - kernel[i]) // stride[i] + 1
        places = torch.arange(kernel[i])[:, None] + torch.arange(length) * stride[i] - padding[i]
        over = (places < 0) | (places >= size[i])
        lines = over.any(0).nonzero().flatten().tolist()
        return lines, over[:, lines].to(dtype)

    (rows, over_rows), (cols, over_cols) = of_side(0), of_side(1)
    return Border(rows, cols, over_rows, over_cols)


def _take_from_border(out: Tensor, taps: Tensor, border: Border | None) -> None:
    """Take from an output what the taps ``(O, kh, kw)`` have added where padding lies."""
    if border is None:
        return
    of_rows = taps.sum(2) @ border.over_rows  # (O, rows)
    of_cols = taps.sum(1) @ border.over_cols
    of_both = border.over_rows.T @ taps @ border.over_cols  # (O, rows, cols), taken twice
    for i, h in enumerate(border.rows):
        out[:, :, h] -= of_rows[:, i, None]
        for j, w in enumerate(border.cols):
            out[:, :, h, w] += of_both[:, i, j]
    for j, w in enumerate(border.cols):
        out[..., w] -= of_cols[:, j, None]


def _sums_of_taps(grad: Tensor, total: Tensor, border: Border | None) -> Tensor:
    """``(O, kh, kw)``: sums of the outputs' gradients for which a place lies on the map.

    ``total``, ``(O,)``, are the sums over all outputs.
    """
    sums = total[:, None, None]
    if border is None:
        return sums
    rows = grad[:, :, border.rows].sum(0)  # (O, rows, W')
    of_both = rows[:, :, border.cols]
    of_rows = rows.sum(2)
    of_cols = grad[..., border.cols].sum((0, 2))
    of_rows = of_rows @ border.over_rows.T  # (O, kh)
    of_cols = of_cols @ border.over_cols.T
    of_both = border.over_rows @ of_both @ border.over_cols.T
    return sums - of_rows[:, :, None] - of_cols[:, None] + of_both


def _conv(x: Tensor, weight: Tensor, bias: Tensor, conv: tuple) -> Tensor:
    if weight.shape[2:] == (1, 1):
        return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
    stride, padding, groups = conv
    return F.conv2d(x, weight, bias, stride, padding, 1, groups)


def _conv_backward(
    grad: Tensor, x: Tensor, weight: Tensor, conv: tuple
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias."""
    if weight.shape[2:] == (1, 1):
        # (N, C, H, W) -> (N, H, W, C) -> (N H W, C)
        lines = grad.permute(0, 2, 3, 1)
        grad_x = (lines @ weight.flatten(1)).permute(0, 3, 1, 2)
        lines = lines.flatten(0, 2)
        grad_weight = lines.T @ x.permute(0, 2, 3, 1).flatten(0, 2)
        return grad_x, grad_weight[:, :, None, None], lines.sum(0)
    stride, padding, groups = conv
    grad_x, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
        grad, x, weight, [len(weight)], stride, padding, (1, 1), False, (0, 0), groups, (True,) * 3
    )
    return grad_x.contiguous(memory_format=torch.channels_last), grad_weight, grad_bias


def _gelu_less(mean: Tensor, x: Tensor) -> Tensor:
    """``gelu(x) - mean``"""
    out = torch.empty_like(x)
    for out_block, x_block in _in_blocks(out, x):
        torch.ops.aten.gelu.out(x_block, out=out_block).sub_(mean)
    return out


def _add_line_through_gelu(
    grad: Tensor, y: Tensor, x: Tensor, slope: Tensor, level: Tensor
) -> Tensor:
    """``(grad + slope * y + level) * gelu'(x)`` in the place of grad."""
    for g, y_block, x_block in _in_blocks(grad, y, x):
        g.addcmul_(y_block, slope).add_(level)
        torch.ops.aten.gelu_backward.grad_input(g, x_block, grad_input=g)
    return grad


def _in_blocks(*maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Positions ``(L, C)`` of channels-last maps, as many at a time as the cache holds."""
    step = max(BLOCK // maps[0].shape[1], 1)
    # (N, C, H, W) -> (N H W, C), a view
    lines = (m.permute(0, 2, 3, 1).flatten(0, 2).split(step) for m in maps)
    return zip(*lines, strict=True)
