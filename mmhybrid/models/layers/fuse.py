"""Batch norms folded into the layers beside them, for inference."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .plain import is_plain
from .pointwise_conv import PointwiseConv


class Folded(nn.Identity):
    """What stands for a norm once it is folded into a layer beside it."""


def fuse_norms(model: nn.Module) -> None:
    """Fold what batch norms of a model in evaluation mode can be folded, in place.

    In an ``nn.Sequential`` a batch norm after a convolution is folded into it. Modules that know
    more have a method ``fuse_norms``, built of :func:`fold_into_previous` and
    :func:`fold_into_next`.
    """
    for module in model.modules():
        if isinstance(module, nn.Sequential):
            for i, (layer, norm) in enumerate(itertools.pairwise(list(module))):
                if isinstance(layer, nn.Conv2d):
                    module[i + 1] = fold_into_previous(norm, layer)
        elif hasattr(module, 'fuse_norms'):
            module.fuse_norms()


@torch.no_grad()
def fold_into_previous(norm: nn.Module, *layers: nn.Conv2d | nn.Linear) -> nn.Module:
    """What stands for a norm once it is folded into the layers that it normalises.

    Args:
        norm: a batch norm; others are returned as they are, and so is one beside a layer that
            somebody wraps or listens to.
        layers: those whose outputs, one after another, are its channels.
    """
    if not _can_fold(norm, *layers):
        return norm
    widths = [len(layer.weight) for layer in layers]
    scales, shifts = (values.split(widths) for values in _scale_and_shift(norm))
    for layer, scale, shift in zip(layers, scales, shifts, strict=True):
        bias = shift if layer.bias is None else layer.bias * scale + shift
        layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
        layer.bias = nn.Parameter(bias, requires_grad=layer.weight.requires_grad)
    return Folded()


@torch.no_grad()
def fold_into_next(norm: nn.Module, layer: nn.Linear) -> nn.Module:
    """What stands for a norm once it is folded into the linear layer that follows it.

    Not for a convolution that pads: its zeros stand for normalised ones, which a shift would move.
    """
    if not _can_fold(norm, layer):
        return norm
    scale, shift = _scale_and_shift(norm)
    bias = layer.weight @ shift
    layer.bias = nn.Parameter(bias if layer.bias is None else layer.bias + bias)
    layer.weight.mul_(scale)
    return Folded()


def _can_fold(norm: nn.Module, *layers: nn.Module) -> bool:
    return (
        isinstance(norm, _BatchNorm)
        and norm.track_running_stats
        and not norm.training
        and all(is_plain(layer, nn.Conv2d, nn.Linear, PointwiseConv) for layer in layers)
    )


def _scale_and_shift(norm: _BatchNorm) -> Sequence[Tensor]:
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift + norm.bias if norm.affine else shift
