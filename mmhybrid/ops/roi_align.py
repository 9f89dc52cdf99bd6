"""RoIAlign (Mask R-CNN, arXiv 1703.06870): mean or maximum of bilinear samples."""

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401, registers the operators
from torch import Tensor

from .common import full, without_autocast
from .regions import (
    BUDGET,
    OUTSIDE,
    Regions,
    check_extents,
    check_regions,
    neighbours,
    table,
)

MAX, AVG = range(2)
NOTHING = -10000.0
"""Maximum of a bin without samples, of a region without area: as mmcv's on a CPU."""


@without_autocast
def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Sample regions of maps.

    Args:
        input: ``(N, C, H, W)``, in any memory format.
        rois: ``(R, 5)``: image, x1, y1, x2, y2, in pixels of the image.
        output: ``(R, C, aligned_height, aligned_width)``, filled.
        argmax_y, argmax_x: of the same shape, filled with the place of the maximum if there is one.
        spatial_scale: pixels of the map for one of the image.
        sampling_ratio: samples of a bin in each direction; 0 for as many as it has pixels.
        pool_mode: 0 for the maximum, 1 for the mean.
        aligned: pixels' centres are at their coordinates; False shifts by half a pixel.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, or, on a CPU, regions are not finite,
            upside down, endless or of an image that is not there.
    """
    check_regions('roi_align', input, rois)
    size = (aligned_height, aligned_width)
    check_extents('roi_align', rois, size, spatial_scale, sampling_ratio, aligned)
    if not len(rois):
        return
    maps, rois = full(input), full(rois)
    if pool_mode == AVG:
        output.copy_(
            torch.ops.torchvision.roi_align(
                maps, rois, spatial_scale, *size, sampling_ratio, aligned
            )
        )
    else:
        _maximum(maps, rois, (output, argmax_y, argmax_x), spatial_scale, sampling_ratio, aligned)


@without_autocast
def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of :func:`roi_align_forward` to ``grad_input``, ``(N, C, H, W)``."""
    if not len(rois):
        return
    grad, rois = full(grad_output), full(rois)
    size, shape = (aligned_height, aligned_width), grad_input.shape
    if pool_mode == MAX:
        out = _spread(grad, rois[:, 0].long(), full(argmax_y), full(argmax_x), shape)
    elif grad.is_cuda and torch.are_deterministic_algorithms_enabled():
        # torchvision's kernel adds up in any order.
        out = _spread_mean(grad, Regions(rois, size, spatial_scale, sampling_ratio, aligned), shape)
    else:
        out = torch.ops.torchvision._roi_align_backward(
            grad, rois, spatial_scale, *size, *shape, sampling_ratio, aligned
        )
    grad_input.add_(out)


def _maximum(
    maps: Tensor,
    rois: Tensor,
    outputs: tuple[Tensor, Tensor, Tensor],
    scale: float,
    ratio: int,
    aligned: bool,
) -> None:
    channels, height, width = maps.shape[1:]
    size = down, across = outputs[0].shape[2], outputs[0].shape[3]
    bins, rows = down * across, table(maps)
    # Regions of one size after another: their grids are padded to that of the largest.
    x, y = Regions(rois, size, scale, ratio, aligned).counts
    for part in (x * y).argsort().split(max(BUDGET // (bins * channels), 1)):
        regions = Regions(rois[part], size, scale, ratio, aligned)
        grid = regions.grid()
        y, x = regions.points(grid)
        pixels, weights = regions.pixels(y, x, height, width)
        points = pixels.shape[:-1]  # (R, *size, *grid)
        # (R, *size, *grid, 4) -> (R bins, points, 4)
        pixels, weights = (t.flatten(3, 4).flatten(0, 2) for t in (pixels, weights))
        is_valid = regions.valid(grid)  # (R, 1, points)
        best = rows.new_full((len(part), bins, channels), -torch.inf)
        at = torch.zeros_like(best, dtype=torch.long)
        for i in range(pixels.shape[1]):
            samples = F.embedding_bag(
                pixels[:, i], rows, per_sample_weights=weights[:, i], mode='sum'
            )
            # (R bins, C) -> (R, bins, C)
            samples = samples.view_as(best).masked_fill_(~is_valid[..., i : i + 1], -torch.inf)
            at.masked_fill_(samples > best, i)
            best = torch.maximum(best, samples)
        is_empty = ~is_valid.any(2, keepdim=True)
        results = [best.masked_fill_(is_empty, NOTHING)]
        for axis in (y, x):
            # broadcast to (R, *size, *grid), then (R, bins, points)
            axis = axis.expand(points).flatten(3).flatten(1, 2)
            results.append(axis.gather(2, at).masked_fill_(is_empty, OUTSIDE))
        for output, result in zip(outputs, results, strict=True):
            # (R, bins, C) -> (R, C, *size)
            output[part] = result.transpose(1, 2).unflatten(2, size).to(output.dtype)


def _spread(grad: Tensor, image: Tensor, y: Tensor, x: Tensor, shape: torch.Size) -> Tensor:
    """Gradient of maps from that of values ``(R, C, *size)`` sampled at y and x, one point each."""
    _, channels, height, width = shape
    out = grad.new_zeros(shape).view(-1)
    rows, weights_y = neighbours(y, height)
    columns, weights_x = neighbours(x, width)
    plane = image.view(-1, 1, 1, 1) * channels
    plane = plane + torch.arange(channels, device=grad.device).view(-1, 1, 1)
    for i in (0, 1):
        for j in (0, 1):
            index = (plane * height + rows[..., i]) * width + columns[..., j]
            value = grad * weights_y[..., i] * weights_x[..., j]
            out.index_add_(0, index.flatten(), value.flatten())
    return out.view(shape)


def _spread_mean(grad: Tensor, regions: Regions, shape: torch.Size) -> Tensor:
    """Gradient of maps from that of the mean of samples, in an order that is always the same."""
    images, channels, height, width = shape
    grid = regions.grid()
    is_valid = regions.valid(grid)
    share = is_valid / is_valid.sum(2, keepdim=True).clamp(min=1)  # (R, 1, points)
    pixels, weights = regions.pixels(*regions.points(grid), height, width)
    # (R, *size, *grid, 4) -> (R bins, points 4)
    weights = (weights.flatten(3, 4).flatten(1, 2) * share.unsqueeze(3)).flatten(2).flatten(0, 1)
    pixels = pixels.flatten(3).flatten(0, 2)
    values = grad.permute(0, 2, 3, 1).reshape(-1, channels)  # -> (R, *size, C) -> (R bins, C)
    out = grad.new_zeros(images * height * width, channels)
    for i in range(pixels.shape[1]):  # one sample of every bin at a time
        out.index_add_(0, pixels[:, i], values * weights[:, i, None])
    return out.view(images, height, width, channels).permute(0, 3, 1, 2)  # -> (N, C, H, W)
