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
    y, x = (torch.arange(n, device=input.device) for n in (h_feature, w_feature))
    masks = input.view(num_, h_mask, w_mask, h_feature, w_feature)
    # of each target row and each row the row of the mask; then of columns
    out = _pick(masks, y.unsqueeze(1) - y + half_h_mask, x.unsqueeze(1) - x + half_w_mask)
    _view(output, psa_type, h_feature, w_feature).copy_(out)


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
    i, j, y, x = (
        torch.arange(n, device=grad_output.device) for n in (h_mask, w_mask, h_feature, w_feature)
    )
    grad = _view(grad_output, psa_type, h_feature, w_feature)
    # of each row of the mask and each row the target row; then of columns
    out = _pick(grad, i.unsqueeze(1) + y - half_h_mask, j.unsqueeze(1) + x - half_w_mask)
    grad_input.copy_(out.flatten(1, 2))  # (N, h_mask, w_mask, H, W) -> (N, h_mask w_mask, H, W)


def _view(tensor: Tensor, psa_type: int, h: int, w: int) -> Tensor:
    """Attention as ``(N, H, W, H, W)``: targets, then the pixels whose masks they are in."""
    tensor = tensor.contiguous().view(len(tensor), h, w, h, w)
    return tensor if psa_type == COLLECT else tensor.permute(0, 3, 4, 1, 2)


def _pick(tensor: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Take, for every pixel, rows and columns of the first dimensions.

    Args:
        tensor: ``(N, A, B, H, W)``.
        rows: ``(P, H)``, indices of A; those outside give 0.
        columns: ``(Q, W)``, indices of B.

    Returns:
        ``(N, P, Q, H, W)``.
    """
    y, x = (torch.arange(n, device=tensor.device) for n in tensor.shape[3:])
    rows, columns = rows[:, None, :, None], columns[None, :, None, :]
    row, column = rows.clamp(0, tensor.shape[1] - 1), columns.clamp(0, tensor.shape[2] - 1)
    out = tensor[:, row, column, y.unsqueeze(1), x]
    for index, length in ((rows, tensor.shape[1]), (columns, tensor.shape[2])):
        out.masked_fill_((index < 0) | (index >= length), 0)
    return out
