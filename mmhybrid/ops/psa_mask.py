"""Masks of point-wise spatial attention (PSANet, ECCV 2018) from maps of relative places."""

import torch
from torch import Tensor

COLLECT, DISTRIBUTE = range(2)


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Turn masks around each pixel into masks of the whole map.

    Args:
        input: ``(N, h_mask * w_mask, H, W)``, the mask of each pixel.
        output: ``(N, H * W, H, W)``, filled, 0 where masks do not reach: for each pixel as the last
            dimensions (collect, 0) or as the second (distribute, 1).

    Raises:
        ValueError: shapes do not fit.
    """
    expected = (num_, h_mask * w_mask, h_feature, w_feature)
    if tuple(input.shape) != expected:
        raise ValueError(f'psamask: expected masks {expected}, got {tuple(input.shape)}')
    pixels, source, target = _places(
        input.device, h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask
    )
    values = input.flatten(2)[:, source, pixels]  # (N, places)
    out = output.view(num_, h_feature * w_feature, h_feature * w_feature)
    if psa_type == COLLECT:
        out[:, target, pixels] = values
    else:
        out[:, pixels, target] = values


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Fill ``grad_input``, ``(N, h_mask * w_mask, H, W)``."""
    pixels, source, target = _places(
        grad_output.device, h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask
    )
    grad = grad_output.reshape(num_, h_feature * w_feature, h_feature * w_feature)
    places = (target, pixels) if psa_type == COLLECT else (pixels, target)
    grad_input.view(num_, h_mask * w_mask, -1)[:, source, pixels] = grad[:, places[0], places[1]]


def _places(device, h: int, w: int, h_mask: int, w_mask: int, half_h: int, half_w: int):
    """Indices of pixels, of places in their masks, and of the pixels that those mean."""
    y, x, i, j = (torch.arange(n, device=device) for n in (h, w, h_mask, w_mask))
    rows = y.view(-1, 1, 1, 1) + i.view(1, 1, -1, 1) - half_h  # (H, 1, h_mask, 1)
    columns = x.view(1, -1, 1, 1) + j - half_w  # (1, W, 1, w_mask)
    is_inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    y, x, i, j = is_inside.nonzero(as_tuple=True)
    return y * w + x, i * w_mask + j, (y + i - half_h) * w + x + j - half_w
