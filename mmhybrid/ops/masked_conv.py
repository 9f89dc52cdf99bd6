"""Convolution at chosen places (of guided anchoring, arXiv 1901.03278): columns there and back."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .common import check_alike, shape


def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Gather what a kernel sees at chosen places.

    Args:
        im: ``(1, C, H, W)``.
        mask_h_idx, mask_w_idx: places of the output, ``(P,)``.
        col: ``(C * kernel_h * kernel_w, P)``, filled.

    Raises:
        ValueError: shapes, dtypes or devices do not fit.
    """
    check_alike('masked_im2col', im=im, col=col)
    expected = (im.shape[1] * kernel_h * kernel_w, len(mask_h_idx))
    if im.dim() != 4 or len(im) != 1 or tuple(col.shape) != expected:
        raise ValueError(
            f'masked_im2col: expected a map (1, C, H, W) and columns {expected}, got a map '
            f'{shape(im)} and columns {shape(col)}'
        )
    padded = F.pad(im[0], (pad_w, pad_w, pad_h, pad_h))
    row = torch.arange(kernel_h, device=im.device).view(-1, 1, 1) + mask_h_idx
    column = torch.arange(kernel_w, device=im.device).view(-1, 1) + mask_w_idx
    # (C, kernel_h, kernel_w, P) -> (C kernel_h kernel_w, P)
    col.copy_(padded[:, row, column].flatten(0, 2))


def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Put values ``(C, P)`` to their places in ``im``, ``(1, C, H, W)``."""
    im[0, :, mask_h_idx, mask_w_idx] = col.to(im.dtype)
