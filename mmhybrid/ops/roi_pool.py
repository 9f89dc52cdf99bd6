"""RoIPool (Fast R-CNN, arXiv 1504.08083): the maximum of the pixels of each bin.

mmcv's form: regions end behind their last pixel and are not rounded, bins are, to whole pixels.
torchvision's rounds the regions first and gives other maxima.
"""

import torch
from torch import Tensor

from .common import full
from .regions import check_regions, parts, table


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Take the maximum of every bin of regions.

    Args:
        input: ``(N, C, H, W)``.
        rois: ``(R, 5)``: image, x1, y1, x2, y2, in pixels of the image.
        output: ``(R, C, pooled_height, pooled_width)``, filled; 0 where a bin has no pixel.
        argmax: of the same shape, int32, filled with the pixel, counted by rows; -1 for none.
        spatial_scale: pixels of the map for one of the image.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, or, on a CPU, regions are not finite or of
            an image that is not there.
    """
    check_regions('roi_pool', input, rois)
    if not len(rois):
        return
    channels, height, width = input.shape[1:]
    rows, rois = table(full(input)), full(rois)
    spans = _spans(rois, 2, height, pooled_height, spatial_scale)
    spans += _spans(rois, 1, width, pooled_width, spatial_scale)
    down, across = (max(int((end - begin).max()), 1) for begin, end in (spans[:2], spans[2:]))
    for part in parts(rois, pooled_height * pooled_width * down * across * channels):
        top, bottom, left, right = (span[part] for span in spans)  # (R, bins)
        y = top.unsqueeze(2) + torch.arange(down, device=rois.device)  # (R, bins, down)
        x = left.unsqueeze(2) + torch.arange(across, device=rois.device)
        inside_y, inside_x = y < bottom.unsqueeze(2), x < right.unsqueeze(2)
        # (R, bins, 1, down, 1) with (R, 1, bins, 1, across) -> (R, *size, down, across)
        y, inside_y = (t[:, :, None, :, None] for t in (y, inside_y))
        x, inside_x = (t[:, None, :, None, :] for t in (x, inside_x))
        pixels = (y.clamp(max=height - 1) * width + x.clamp(max=width - 1)).flatten(3)
        is_inside = (inside_y & inside_x).flatten(3).unsqueeze(-1)
        first = rois[part, 0].long().view(-1, 1, 1, 1) * (height * width)
        values = rows[pixels + first].masked_fill_(~is_inside, -torch.inf)
        best, at = values.max(3)  # (R, *size, C)
        is_empty = ~is_inside.any(3)
        output[part] = best.masked_fill(is_empty, 0).permute(0, 3, 1, 2)  # -> (R, C, *size)
        at = pixels.gather(3, at).masked_fill(is_empty, -1)
        argmax[part] = at.permute(0, 3, 1, 2).int()  # -> (R, C, *size)


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Add the gradient of :func:`roi_pool_forward` to ``grad_input``, ``(N, C, H, W)``."""
    if not len(rois):
        return
    images, channels, height, width = grad_input.shape
    grad = full(grad_output)
    plane = rois[:, 0].long().view(-1, 1, 1, 1) * channels
    plane = plane + torch.arange(channels, device=grad.device).view(-1, 1, 1)
    index = plane * (height * width) + argmax.clamp(min=0)
    out = grad.new_zeros(grad_input.numel())
    out.index_add_(0, index.flatten(), grad.masked_fill(argmax < 0, 0).flatten())
    grad_input.add_(out.view(images, channels, height, width))


def _spans(rois: Tensor, axis: int, length: int, bins: int, scale: float) -> list[Tensor]:
    """First pixel of each bin and the one behind its last, ``(R, bins)``, within the map."""
    start = (rois[:, axis] * scale).unsqueeze(1)
    end = ((rois[:, axis + 2] + 1) * scale).unsqueeze(1)
    step = (end - start) / bins
    number = torch.arange(bins, device=rois.device)
    low = (number * step + start).floor().clamp(0, length).long()
    high = ((number + 1) * step + start).ceil().clamp(0, length).long()
    return [low, torch.where(end > start, high, low)]
