"""Deformable RoI pooling (arXiv 1703.06211): RoIAlign whose bins are moved by offsets."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .common import full
from .regions import Regions, check_extents, check_regions, parts, table


def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Mean of the samples of each bin.

    Args:
        input: ``(N, C, H, W)``.
        rois: ``(R, 5)``: image, x1, y1, x2, y2, in pixels of the image.
        offset: ``(R, 2, pooled_height, pooled_width)``, x and y, or empty.
        output: ``(R, C, pooled_height, pooled_width)``, filled.
        spatial_scale: pixels of the map for one of the image.
        sampling_ratio: samples of a bin in each direction; 0 for as many as it has pixels.
        gamma: part of its region by which a bin moves for an offset of 1.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, or, on a CPU, regions are not finite,
            upside down, endless or of an image that is not there.
    """
    size = (pooled_height, pooled_width)
    check_regions('deform_roi_pool', input, rois)
    check_extents('deform_roi_pool', rois, size, spatial_scale, sampling_ratio, True)
    if offset.numel() and tuple(offset.shape) != (len(rois), 2, *size):
        raise ValueError(
            f'deform_roi_pool: expected offsets {(len(rois), 2, *size)} or none, got '
            f'{tuple(offset.shape)}'
        )
    if not len(rois):
        return
    shift = full(offset) * gamma if offset.numel() else None
    maps, rois = full(input), full(rois)
    options = (size, spatial_scale, sampling_ratio)
    for part in _parts(rois, *options):
        output[part] = _pool(maps, rois[part], None if shift is None else shift[part], *options)


def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Add the gradients of input and offset of :func:`deform_roi_pool_forward`."""
    if not len(rois):
        return
    options = ((pooled_height, pooled_width), spatial_scale, sampling_ratio)
    maps, moves, rois = full(input).detach(), full(offset).detach(), full(rois)
    inputs = [maps.requires_grad_(), *([moves.requires_grad_()] if moves.numel() else [])]
    for part in _parts(rois, *options):
        with torch.enable_grad():
            shift = moves[part] * gamma if moves.numel() else None
            out = _pool(maps, rois[part], shift, *options)
        grads = torch.autograd.grad(out, inputs, full(grad_output)[part])
        for buffer, grad in zip((grad_input, grad_offset), grads, strict=False):
            buffer.add_(grad)


def _parts(rois: Tensor, size: tuple[int, int], scale: float, ratio: int) -> list[slice]:
    down, across = Regions(rois, size, scale, ratio, True).grid()
    return parts(rois, size[0] * size[1] * down * across * 16)  # 4 pixels, with what leads to them


def _pool(
    maps: Tensor, rois: Tensor, shift: Tensor | None, size: tuple, scale: float, ratio: int
) -> Tensor:
    """Means ``(R, C, *size)``."""
    regions = Regions(rois, size, scale, ratio, True, shift)
    grid = regions.grid()
    pixels, weights = regions.pixels(*regions.points(grid), *maps.shape[2:])
    is_valid = regions.valid(grid).unsqueeze(3)  # (R, 1, points, 1)
    share = is_valid / is_valid.sum(2, keepdim=True).clamp(min=1)
    # (R, *size, *grid, 4) -> (R, bins, points, 4), then (R bins, points 4)
    weights = weights.flatten(3, 4).flatten(1, 2) * share
    pixels, weights = pixels.flatten(3).flatten(0, 2), weights.flatten(2).flatten(0, 1)
    out = F.embedding_bag(pixels, table(maps), per_sample_weights=weights, mode='sum')
    # (R bins, C) -> (R, *size, C) -> (R, C, *size)
    return out.view(len(rois), *size, -1).permute(0, 3, 1, 2)
