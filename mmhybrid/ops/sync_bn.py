"""The steps of mmcv's batch norm over several processes, ``MMSyncBN``.

Between them mmcv adds the statistics up over all processes.
"""

from torch import Tensor


def sync_bn_forward_mean(input: Tensor, mean: Tensor) -> None:
    """Fill the means ``(C,)`` of ``(N, C, L)``."""
    mean.copy_(input.float().mean((0, 2)))


def sync_bn_forward_var(input: Tensor, mean: Tensor, var: Tensor) -> None:
    """Fill the mean squared distances from ``mean``, both ``(C,)``."""
    var.copy_((input.float() - mean.view(-1, 1)).square().mean((0, 2)))


def sync_bn_forward_output(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    norm: Tensor,
    std: Tensor,
    output: Tensor,
    eps: float,
    momentum: float | Tensor,
    group_size: int,
) -> None:
    """Normalise, and move the running statistics.

    Args:
        input: ``(N, C, L)``.
        mean, var: of all processes, ``(C,)``.
        weight, bias: ``(C,)``.
        running_mean, running_var: moved towards mean and var by ``momentum``.
        norm, std: filled with what the backward pass needs, ``(N, C, L)`` and ``(C,)``.
        output: ``(N, C, L)``, filled.
        group_size: processes, each of as many images.
    """
    std.copy_((var + eps).sqrt())
    norm.copy_((input.float() - mean.view(-1, 1)) / std.view(-1, 1))
    output.copy_(norm * weight.view(-1, 1) + bias.view(-1, 1))
    count = input.shape[0] * input.shape[2] * group_size
    unbiased = var * (count / (count - 1)) if count > 1 else var
    for running, new in ((running_mean, mean), (running_var, unbiased)):
        running.copy_(momentum * new + (1 - momentum) * running)


def sync_bn_backward_param(
    grad_output: Tensor, norm: Tensor, grad_weight: Tensor, grad_bias: Tensor
) -> None:
    """Fill the gradients of weight and bias, ``(C,)``."""
    grad = grad_output.float()
    grad_weight.copy_((grad * norm).sum((0, 2)))
    grad_bias.copy_(grad.sum((0, 2)))


def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
    grad_input: Tensor,
) -> None:
    """Fill the gradient of the input, ``(N, C, L)``."""
    count = grad_output.shape[0] * grad_output.shape[2]
    weight, grad_weight, grad_bias, std = (
        t.view(-1, 1) for t in (weight, grad_weight, grad_bias, std)
    )
    common = (grad_weight * norm + grad_bias) / count
    grad_input.copy_((grad_output.float() - common) * weight / std)
