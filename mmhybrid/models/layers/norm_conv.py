"""GELU, batch norm, convolution: in training the norm works through the convolution's weights."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .blocks import BLOCK, borrow
from .linear import fast_linear
from .plain import is_plain
from .pointwise_conv import PointwiseConv, ResidualDWConv
from .recompute import lean

Layers = tuple[nn.Module, nn.Module]
CONVOLUTIONS = (nn.Conv2d, ResidualDWConv, PointwiseConv)


def gelu_norm_convs(x: Tensor, *pairs: Layers, made_by: nn.Module | None = None) -> Tensor:
    """``conv(norm(gelu(x)))`` of a map ``(N, C, H, W)`` for one pair of layers after the other.

    Once its statistics are known a batch norm is a scale and a shift of each channel, and those a
    convolution can do: what was a pass over the map is one over the weights. Backward, too, the
    gradients of scale, shift and statistics follow from those of the weights, and what is kept is
    each GELU's input alone. So it is in training on a CPU, for convolutions that pad with zeros;
    anywhere else the layers run as they are.

    Args:
        made_by: the layer that has returned ``x``; without gradients its memory is used again where
            nobody listens to that layer.
    """
    if any(type(norm) is nn.Identity for norm, _ in pairs):
        raise RuntimeError(
            "batch norms that follow a GELU are gone, as mmcv's fuse_conv_bn leaves it: it has put "
            'them into the convolutions before the GELU, which changes outputs; build the model '
            'anew, load its weights, and fuse the backbone by its own fuse(), other parts by '
            'fuse_conv_bn'
        )
    if torch.is_grad_enabled() and all(_can_fold(x, *pair) for pair in pairs):
        links = [_link(*pair) for pair in pairs]
        parameters = [p for link in links for p in link.parameters()]
        return GeluNormConvs.apply(x, links, *parameters)
    for norm, conv in pairs:
        x = _run_layers(x, norm, conv, made_by)
        made_by = conv
    return x


def _run_layers(x: Tensor, norm: nn.Module, conv: nn.Module, made_by: nn.Module | None) -> Tensor:
    if torch.is_grad_enabled():
        return lean(lambda x: conv(norm(F.gelu(x))), x, owner=norm)
    is_ours = made_by is not None and is_plain(made_by, *CONVOLUTIONS)
    return conv(norm(torch.ops.aten.gelu_(x) if is_ours else F.gelu(x)))  # maps are large here


def _can_fold(x: Tensor, norm: nn.Module, conv: nn.Module) -> bool:
    return (
        is_plain(norm, nn.BatchNorm2d)
        and _can_scale(conv)
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and x.device.type == 'cpu'
        and x.dtype == norm.weight.dtype
        and x.dtype.itemsize >= 4  # in less, weights with all of that in them would lose digits
        and x.numel() > x.shape[1]  # of one value there is no variance, which the norm says
        and not torch.is_autocast_enabled('cpu')
        and not torch.compiler.is_compiling()
    )


def _can_scale(conv: nn.Module) -> bool:
    if is_plain(conv, nn.Conv2d, ResidualDWConv):
        zeros = conv.padding_mode == 'zeros' and not isinstance(conv.padding, str)
        return zeros and conv.dilation == (1, 1)
    return is_plain(conv, PointwiseConv)


class GeluNormConvs(torch.autograd.Function):
    """See :func:`gelu_norm_convs`."""

    @staticmethod
    def forward(ctx, x, links, *parameters):
        saved = []
        for link, own in zip(links, _in_fours(parameters), strict=True):
            x = x.contiguous(memory_format=torch.channels_last)
            if x.numel() <= x.shape[1]:
                link.norm(x)  # raises: a convolution before it has left one value
            link.norm.num_batches_tracked.add_(1)
            out, mean, rstd = link.forward(x, *own)
            saved += x, *own[:3], mean, rstd
            x = out
        ctx.save_for_backward(*saved)
        ctx.links = links
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        saved, of_parameters = list(ctx.saved_tensors), []
        for i, link in reversed(list(enumerate(ctx.links))):
            (x, *others), saved = saved[-6:], saved[:-6]
            grad = grad.contiguous(memory_format=torch.channels_last)
            # What goes from one link to the next is needed for a moment only; two links take turns.
            slot = f'gradient {i % 2}' if i else None
            grad, *own = link.backward(grad, x, *others, slot)
            of_parameters = own + of_parameters
        needed = ctx.needs_input_grad[2:]
        return grad, None, *(g if n else None for g, n in zip(of_parameters, needed, strict=True))


def _in_fours(values: Sequence) -> Iterator[Sequence]:
    return (values[i : i + 4] for i in range(0, len(values), 4))


def _link(norm: nn.BatchNorm2d, conv: nn.Module) -> '_Pointwise | _Conv':
    return (_Pointwise if isinstance(conv, PointwiseConv) else _Conv)(norm, conv)


# Below, y = gelu(x) and its norm is scale * y + shift. Backward y is centred: what the gradients
# follow from, the products of weights' gradients with y, would be small differences of large sums.
# Maps (N, C, H, W) are channels-last.


class _Pointwise:
    """GELU, norm and a :class:`PointwiseConv`, whose weights are ``(O, C)``."""

    def __init__(self, norm: nn.BatchNorm2d, conv: PointwiseConv):
        self.norm, self.conv = norm, conv

    def parameters(self) -> tuple[Tensor, ...]:
        return self.norm.weight, self.norm.bias, self.conv.weight, self.conv.bias

    def forward(self, x, gamma, beta, weight, bias):
        lines = _lines(x)
        y = torch.ops.aten.gelu.out(lines, out=borrow(x, *lines.shape))
        mean, rstd = _statistics(y, self.norm)
        scale = gamma * rstd
        offset = weight @ (beta - mean * scale)
        bias = offset if bias is None else bias + offset
        out = fast_linear(y, weight * scale, bias)
        return _as_map(out, x), mean, rstd

    def backward(self, grad, x, gamma, beta, weight, mean, rstd, slot):
        """Gradients of x, lent if there is a slot to borrow from, and of the parameters."""
        grad, lines = _lines(grad), _lines(x)
        y = _centred_gelu(lines, mean)
        scale = gamma * rstd
        scaled = weight * scale
        grad_x = torch.mm(grad, scaled, out=borrow(x, *lines.shape, slot=slot) if slot else None)
        grad_bias, products = grad.sum(0), grad.T @ y
        grad_gamma = rstd * torch.mul(weight, products, out=scaled).sum(0)
        grad_beta = grad_bias @ weight
        grad_weight = products.mul_(scale).addcmul_(grad_bias[:, None], beta)
        line = _line(scale, rstd, grad_gamma, grad_beta, len(y))
        _add_line_through_gelu(grad_x, y, lines, *line)
        return _as_map(grad_x, x), grad_gamma, grad_beta, grad_weight, grad_bias


class _Conv:
    """GELU, norm and a convolution, whose kernel may reach beyond the map."""

    def __init__(self, norm: nn.BatchNorm2d, conv: nn.Conv2d):
        self.norm, self.conv = norm, conv

    def parameters(self) -> tuple[Tensor, ...]:
        conv = self.conv
        weight = conv.kernel() if isinstance(conv, ResidualDWConv) else conv.weight
        return self.norm.weight, self.norm.bias, weight, conv.bias

    def forward(self, x, gamma, beta, weight, bias):
        conv, groups = self.conv, self.conv.groups
        lines = _lines(x)
        y = torch.ops.aten.gelu.out(lines, out=borrow(x, *lines.shape))
        mean, rstd = _statistics(y, self.norm)
        scale = gamma * rstd
        shift = _of_inputs(beta - mean * scale, groups)
        # What the shift adds to an output through each place of the kernel: (O, kh, kw)
        taps = (_grouped(weight, groups) * shift).sum(2).flatten(0, 1)
        offset = taps.sum((1, 2))
        bias = offset if bias is None else bias + offset
        scaled = _scaled(weight, scale, groups)
        out = F.conv2d(_as_map(y, x), scaled, bias, conv.stride, conv.padding, 1, groups)
        _take_from_border(out, taps, self._border(x))
        return out, mean, rstd

    def backward(self, grad, x, gamma, beta, weight, mean, rstd, slot):
        """Gradients of x, which torch allocates, and of the parameters."""
        conv, groups = self.conv, self.conv.groups
        y = _as_map(_centred_gelu(_lines(x), mean), x)
        scale = gamma * rstd
        grad_x, products, grad_bias = torch.ops.aten.convolution_backward(
            grad, y, _scaled(weight, scale, groups), [len(weight)], conv.stride, conv.padding,
            (1, 1), False, (0, 0), groups, (True,) * 3,
        )  # fmt: skip
        grad_x = grad_x.contiguous(memory_format=torch.channels_last)
        sums = _grouped(_sums_of_taps(grad, grad_bias, self._border(x))[:, None], groups)

        products, kernels = _grouped(products, groups), _grouped(weight, groups)
        grad_gamma = rstd * (kernels * products).sum((1, 3, 4)).flatten()
        grad_beta = (kernels * sums).sum((1, 3, 4)).flatten()
        products.mul_(_of_inputs(scale, groups)).addcmul_(_of_inputs(beta, groups), sums)
        line = _line(scale, rstd, grad_gamma, grad_beta, y.numel() // y.shape[1])
        _add_line_through_gelu(*map(_lines, (grad_x, y, x)), *line)
        return grad_x, grad_gamma, grad_beta, products.view(weight.shape), grad_bias

    def _border(self, x: Tensor) -> 'Border | None':
        conv = self.conv
        return _border(x.shape[2:], conv.kernel_size, conv.stride, conv.padding, x.dtype)


def _statistics(y: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Mean and one over deviation of the channels of ``(L, C)``; the norm takes note of them."""
    # (L, C) -> (1, C, L, 1)
    mean, var = torch.batch_norm_update_stats(
        y.T[None, :, :, None], norm.running_mean, norm.running_var, norm.momentum
    )
    return mean, var.add_(norm.eps).rsqrt_()


def _line(
    scale: Tensor, rstd: Tensor, grad_gamma: Tensor, grad_beta: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Slope and level of the norm's own share of y's gradient: all of y moves mean and variance."""
    return -scale * rstd * grad_gamma / count, -scale * grad_beta / count


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

    rows: slice | list[int]
    cols: slice | list[int]
    over_rows: Tensor
    """``(kh, rows)``: 1 where a place of the kernel lies on padding."""
    over_cols: Tensor
    """``(kw, cols)``"""


@lru_cache(maxsize=256)
def _border(size, kernel, stride, padding, dtype) -> Border | None:
    if not any(padding):
        return None

    def of_side(i: int) -> tuple[slice | list[int], Tensor]:
        length = (size[i] + 2 * padding[i] - kernel[i]) // stride[i] + 1
        places = torch.arange(kernel[i])[:, None] + torch.arange(length) * stride[i] - padding[i]
        over = (places < 0) | (places >= size[i])
        lines = over.any(0).nonzero().flatten().tolist()
        over = over[:, lines].to(dtype)
        if len(lines) == 2:  # a slice is a view
            lines = slice(lines[0], lines[1] + 1, lines[1] - lines[0])
        return lines, over

    (rows, over_rows), (cols, over_cols) = of_side(0), of_side(1)
    return Border(rows, cols, over_rows, over_cols)


def _take_from_border(out: Tensor, taps: Tensor, border: Border | None) -> None:
    """Take from an output what the taps ``(O, kh, kw)`` have added where padding lies."""
    if border is None:
        return
    rows, cols, over_rows, over_cols = border
    taps = taps.movedim(0, 2)  # (kh, kw, O)
    of_rows = over_rows.T @ taps.sum(1)  # (rows, O)
    of_cols = over_cols.T @ taps.sum(0)
    of_both = _over_both(over_rows.T, taps, over_cols.T)  # (rows, cols, O)
    out = out.permute(0, 2, 3, 1)  # (N, H', W', O)
    of_rows = of_rows[:, None].repeat(1, out.shape[2], 1)
    of_rows[:, cols] -= of_both  # they would be taken twice
    out[:, rows] -= of_rows
    out[:, :, cols] -= of_cols


def _sums_of_taps(grad: Tensor, total: Tensor, border: Border | None) -> Tensor:
    """``(O, kh, kw)``: sums of the outputs' gradients for which a place lies on the map.

    ``total``, ``(O,)``, are the sums over all outputs.
    """
    if border is None:
        return total[:, None, None]
    rows, cols, over_rows, over_cols = border
    grad = grad.permute(0, 2, 3, 1)  # (N, H', W', O)
    of_rows = grad[:, rows].sum(0)  # (rows, W', O)
    of_cols = grad[:, :, cols].sum((0, 1))  # (cols, O)
    of_both = _over_both(over_rows, of_rows[:, cols], over_cols)  # (kh, kw, O)
    of_rows, of_cols = over_rows @ of_rows.sum(1), over_cols @ of_cols
    return (total - of_rows[:, None] - of_cols + of_both).movedim(2, 0)


def _over_both(rows: Tensor, values: Tensor, cols: Tensor) -> Tensor:
    """``(h, w, O)`` -> ``(h', w', O)`` by matrices ``(h', h)`` and ``(w', w)``."""
    values = (rows @ values.flatten(1)).unflatten(1, values.shape[1:])
    return cols @ values


def _centred_gelu(x: Tensor, mean: Tensor) -> Tensor:
    out = borrow(x, *x.shape)
    for out_block, block in _blocks(out, x):
        torch.ops.aten.gelu.out(block, out=out_block).sub_(mean)
    return out


def _add_line_through_gelu(
    grad: Tensor, y: Tensor, x: Tensor, slope: Tensor, level: Tensor
) -> None:
    """``(grad + slope * y + level) * gelu'(x)`` in the place of grad."""
    for g, y_block, block in _blocks(grad, y, x):
        g.addcmul_(y_block, slope).add_(level)
        torch.ops.aten.gelu_backward.grad_input(g, block, grad_input=g)


def _lines(x: Tensor) -> Tensor:
    """A channels-last map ``(N, C, H, W)`` as ``(N H W, C)``, a view."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def _as_map(lines: Tensor, x: Tensor) -> Tensor:
    """Lines ``(N H W, C)`` as a channels-last map of the size of ``x``."""
    n, _, h, w = x.shape
    return lines.view(n, h, w, lines.shape[1]).permute(0, 3, 1, 2)


def _blocks(*lines: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """As many lines ``(L, C)`` at a time as the cache holds."""
    step = max(BLOCK // lines[0].shape[1], 1)
    return zip(*(t.split(step) for t in lines), strict=True)
