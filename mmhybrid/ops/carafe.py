"""CARAFE (arXiv 1905.02188): upsampling with a kernel of its own for every pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .common import check_alike, full, shape, without_autocast


@without_autocast
def carafe_naive_forward(
    features: Tensor,
    masks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Sum the pixels around each source pixel with the kernels of its targets.

    Args:
        features: ``(N, C, H, W)``.
        masks: kernels, ``(N, group_size * kernel_size**2, H * scale_factor, W * scale_factor)``.
        output: ``(N, C, H * scale_factor, W * scale_factor)``, filled.
        group_size: groups of channels that have kernels of their own.

    Raises:
        ValueError: shapes, dtypes or devices do not fit.
    """
    n, c, h, w = features.shape
    expected = (n, group_size * kernel_size**2, h * scale_factor, w * scale_factor)
    check_alike('carafe', features=features, masks=masks)
    if tuple(masks.shape) != expected or c % group_size or not kernel_size % 2:
        raise ValueError(
            f'carafe: expected an odd kernel, groups that divide the channels, and masks '
            f'{expected}, got kernel_size={kernel_size}, group_size={group_size}, features '
            f'{shape(features)} and masks {shape(masks)}'
        )
    output.copy_(_reassemble(full(features), full(masks), kernel_size, group_size, scale_factor))


@without_autocast
def carafe_naive_backward(
    top_grad: Tensor,
    features: Tensor,
    masks: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Add the gradients of features and masks of :func:`carafe_naive_forward`."""
    features, masks = (full(tensor).detach().requires_grad_() for tensor in (features, masks))
    with torch.enable_grad():
        out = _reassemble(features, masks, kernel_size, group_size, scale_factor)
    grads = torch.autograd.grad(out, (features, masks), full(top_grad))
    bottom_grad.add_(grads[0])
    mask_grad.add_(grads[1])


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """The same as :func:`carafe_naive_forward`; keeps the features in ``rfeatures``."""
    carafe_naive_forward(features, masks, output, kernel_size, group_size, scale_factor)
    rfeatures.copy_(features)  # all that the backward pass is given of them


def carafe_backward(
    top_grad: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rtop_grad: Tensor,
    rbottom_grad_hs: Tensor,
    rbottom_grad: Tensor,
    rmask_grad: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Add the gradients of features and masks of :func:`carafe_forward`."""
    carafe_naive_backward(
        top_grad, rfeatures, masks, bottom_grad, mask_grad, kernel_size, group_size, scale_factor
    )


def _reassemble(features: Tensor, masks: Tensor, kernel: int, groups: int, scale: int) -> Tensor:
    n, c, h, w = features.shape
    area = kernel * kernel
    around = F.unfold(features, kernel, padding=kernel // 2)  # (N, C area, H W)
    around = around.view(n, groups, c // groups, area, h, w)
    # targets in cells of their source: (N, groups, area, H, scale, W, scale)
    masks = masks.reshape(n, groups, area, h, scale, w, scale)
    out = torch.einsum('ngckhw,ngkhiwj->ngchiwj', around, masks)
    # (N, groups, C / groups, H, scale, W, scale) -> (N, C, H scale, W scale)
    return out.reshape(n, c, h * scale, w * scale)
