"""Overlaps of boxes."""

import torch
from torch import Tensor

from .common import full, shape


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int, aligned: bool, offset: int
) -> None:
    """Intersection over union, or over the first box.

    Args:
        bboxes1, bboxes2: ``(M, 4)`` and ``(N, 4)``, x1, y1, x2, y2.
        ious: ``(M, N)``, or ``(M,)`` of pairs; filled.
        mode: 0 over the union, 1 over the first.
        aligned: compare pairs; M is N.
        offset: what is added to every width and height, 0 or 1.

    Raises:
        ValueError: shapes or devices do not fit.
    """
    expected = (len(bboxes1),) if aligned else (len(bboxes1), len(bboxes2))
    if (
        any(boxes.dim() != 2 or boxes.shape[1] != 4 for boxes in (bboxes1, bboxes2))
        or (aligned and len(bboxes1) != len(bboxes2))
        or tuple(ious.shape) != expected
        or bboxes1.device != bboxes2.device
    ):
        raise ValueError(
            f'bbox_overlaps: expected boxes (M, 4) and (N, 4) on one device and results '
            f'{expected}, got boxes {shape(bboxes1)} and {shape(bboxes2)} and results {shape(ious)}'
        )
    first, second = full(bboxes1), full(bboxes2)
    first = first if aligned else first.unsqueeze(1)  # (M, 1, 4) with (N, 4)
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    overlap = (high - low + offset).clamp(min=0).prod(-1)
    area = _area(first, offset)
    ious.copy_(overlap / (area if mode else area + _area(second, offset) - overlap))


def _area(boxes: Tensor, offset: int) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2] + offset).prod(-1)
