"""Focal loss (RetinaNet, arXiv 1708.02002) of class indices, in the sigmoid and softmax form."""

import torch
from torch import Tensor

from .common import can_read, full, shape

TINY = torch.finfo(torch.float32).tiny
"""Smallest probability of which a logarithm is taken."""


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Binary loss of every class.

    Args:
        input: logits ``(N, C)``.
        target: class of each row, ``(N,)``, int64; one outside of 0 to C - 1 is the background.
        weight: factor of the rows of each class, ``(C,)``, or empty; the background's is 1.
        output: ``(N, C)``, filled.
        gamma: exponent that lowers what is already right.
        alpha: share of the positives.

    Raises:
        ValueError: shapes or devices do not fit.
    """
    _check('sigmoid_focal_loss', input, target, weight)
    logits = full(input)
    p = logits.sigmoid()
    is_class = _one_hot(target, logits)
    positive = (1 - p).pow(gamma).mul_(p.clamp(min=TINY).log_()).mul_(-alpha)
    negative = p.pow(gamma).mul_((1 - p).clamp_(min=TINY).log_()).mul_(alpha - 1)
    output.copy_(_weighted(torch.where(is_class, positive, negative), target, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` ``(N, C)`` with each loss's derivative by its logit."""
    logits = full(input)
    p = logits.sigmoid()
    q = 1 - p
    is_class = _one_hot(target, logits)
    positive = (q - gamma * p * p.clamp(min=TINY).log_()).mul_(q.pow(gamma)).mul_(-alpha)
    negative = (gamma * q * q.clamp(min=TINY).log_() - p).mul_(p.pow(gamma)).mul_(alpha - 1)
    grad_input.copy_(_weighted(torch.where(is_class, positive, negative), target, weight))


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Loss of the class of each row.

    Args:
        input: probabilities ``(N, C)``, a softmax.
        target: class of each row, ``(N,)``, int64; below 0 the row has no loss.
        weight: factor of the rows of each class, ``(C,)``, or empty.
        output: ``(N,)``, filled.
        gamma, alpha: as for :func:`sigmoid_focal_loss_forward`; alpha is of all classes.

    Raises:
        ValueError: shapes or devices do not fit, or, on a CPU, a class is not below C.
    """
    _check('softmax_focal_loss', input, target, weight)
    _check_classes(input, target)
    p = _of_class(full(input), target)
    loss = (1 - p).pow(gamma) * p.clamp(min=TINY).log() * -alpha
    output.copy_(_weighted(loss.masked_fill(target < 0, 0), target, weight))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill ``grad_input`` ``(N, C)`` with each loss's derivatives by the logits of its row.

    ``buff``, ``(N,)``, gets what is common to a row: p times the derivative by p.
    """
    softmax = full(input)
    p = _of_class(softmax, target)
    slope = gamma * (1 - p).pow(gamma - 1) * p * p.clamp(min=TINY).log() - (1 - p).pow(gamma)
    slope = _weighted((alpha * slope).masked_fill(target < 0, 0), target, weight)
    buff.copy_(slope)
    grad_input.copy_(slope.unsqueeze(1) * (_one_hot(target, softmax).to(softmax) - softmax))


def _one_hot(target: Tensor, like: Tensor) -> Tensor:
    return target.unsqueeze(1) == torch.arange(like.shape[1], device=like.device)


def _of_class(softmax: Tensor, target: Tensor) -> Tensor:
    """The probability of each row's class, ``(N,)``, or of class 0 where it has none."""
    return softmax.gather(1, target.clamp(min=0).unsqueeze(1)).squeeze(1)


def _weighted(values: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Values of N rows times the weight of the row's class."""
    if not weight.numel():
        return values
    # The background has no weight of its own: it comes last, and is 1.
    weight = torch.cat((weight.to(values), values.new_ones(1)))
    is_class = (target >= 0) & (target < len(weight) - 1)
    factor = weight[target.where(is_class, target.new_full((), len(weight) - 1))]
    return values * (factor.unsqueeze(1) if values.dim() == 2 else factor)


def _check(operator: str, input: Tensor, target: Tensor, weight: Tensor) -> None:
    if (
        input.dim() != 2
        or not input.is_floating_point()
        or target.shape != input.shape[:1]
        or target.dtype != torch.long
        or target.device != input.device
        or (weight.numel() and (weight.shape != input.shape[1:] or weight.device != input.device))
    ):
        raise ValueError(
            f'{operator}: expected predictions (N, C), classes (N,) of int64 and weights (C,) or '
            f'none on one device, got predictions {shape(input)}, classes {shape(target)} and '
            f'weights {shape(weight)}'
        )


def _check_classes(input: Tensor, target: Tensor) -> None:
    if can_read(target) and len(target) and target.max() >= input.shape[1]:
        raise ValueError(
            f'softmax_focal_loss: class {int(target.max())} is not one of {input.shape[1]}, the '
            f'columns of the predictions {shape(input)}; the background needs a column, too'
        )
