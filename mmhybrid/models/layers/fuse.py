"""Batch norms folded into the layers beside them, for inference."""

import itertools
from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .linear import Linear


class Folded(nn.Identity):
    """Replace a norm that is folded into a layer beside it, and do nothing."""


def fuse_norms(model: nn.Module) -> None:
    """Fold the batch norms of a model in evaluation mode, as far as they can be, in place.

    In an ``nn.Sequential`` a batch norm after a convolution is folded into it. Modules that know
    more have a method ``fuse_norms``, built of :func:`fold_into_previous` and
    :func:`fold_into_next`.
    """
    for module in model.modules():
        if isinstance(module, nn.Sequential):
            for i, (layer, norm) in enumerate(itertools.pairwise(list(module))):
                if isinstance(layer, nn.Conv2d):
                    module[i + 1] = fold_into_previous(norm, layer)
        elif callable(fuse := getattr(module, 'fuse_norms', None)):
            fuse()


@torch.no_grad()
def fold_into_previous(norm: nn.Module, *layers: nn.Conv2d | nn.Linear) -> nn.Module:
    """Fold a norm into the layers that it normalises; return the module to put in its place.

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
        # (out) -> (out, 1, ...), of as many dimensions as the weight
        layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
        layer.bias = nn.Parameter(bias, requires_grad=layer.weight.requires_grad)
    return Folded()


@torch.no_grad()
def fold_into_next(norm: nn.Module, layer: nn.Linear) -> nn.Module:
    """Fold a norm into the linear layer that follows it; return the module for its place.

    Not for a convolution that pads: its zeros stand for normalised ones, which a shift would move.
    """
    if not _can_fold(norm, layer):
        return norm
    scale, shift = _scale_and_shift(norm)
    bias = layer.weight @ shift
    layer.bias = nn.Parameter(bias if layer.bias is None else layer.bias + bias)
    layer.weight.mul_(scale)
    return Folded()


def _can_fold(norm: nn.Module, *layers: nn.Module) -> TypeGuard[_BatchNorm]:
    return (
        isinstance(norm, _BatchNorm)
        and norm.track_running_stats
        and not norm.training
        and all(map(_is_bare, layers))
    )


def _is_bare(layer: nn.Module) -> bool:
    """Return True for a layer that nobody wraps or listens to."""
    hooks = (
        layer._forward_pre_hooks,
        layer._forward_hooks,
        layer._backward_pre_hooks,
        layer._backward_hooks,
    )
    return type(layer) in (nn.Conv2d, nn.Linear, Linear) and not any(hooks)


def _scale_and_shift(norm: _BatchNorm) -> Sequence[Tensor]:
    statistics = dict(norm.named_buffers())
    scale = (statistics['running_var'] + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight
    shift = -statistics['running_mean'] * scale
    return scale, shift + norm.bias if norm.affine else shift
