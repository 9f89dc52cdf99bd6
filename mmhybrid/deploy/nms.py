"""Non-maximum suppression as one operator, which ONNX files hold as NonMaxSuppression."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .errors import ExportError

NONE = -1.0
"""Score of a candidate that is none, below all scores of real ones."""


@torch.library.custom_op('mmhybrid::kept_by_nms', mutates_args=())
def kept_by_nms(boxes: Tensor, scores: Tensor, iou: float, limit: int) -> Tensor:
    """Mark the best boxes of each image of which none overlaps a better one.

    Args:
        boxes: ``(N, K, 4)``, x1, y1, x2, y2.
        scores: ``(N, K)``; candidates of less than 0 are none.
        iou: boxes that overlap by more are one.
        limit: how many are kept of an image.

    Returns:
        Which are kept, ``(N, K)`` bool. A mask has the same shape whatever is kept.
    """
    from torchvision.ops import nms

    kept = torch.zeros_like(scores, dtype=torch.bool)
    for image in range(len(boxes)):
        (real,) = (scores[image] >= 0).nonzero(as_tuple=True)
        best = nms(boxes[image, real], scores[image, real], iou)[:limit]
        kept[image, real[best]] = True
    return kept


@kept_by_nms.register_fake
def _(boxes: Tensor, scores: Tensor, iou: float, limit: int) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def onnx_translations() -> dict[Callable, Callable]:
    """Return the forms in ONNX of the operators here, for ``torch.onnx.export``."""
    from onnxscript import opset18

    op: Any = opset18  # its types know no values that are to be traced

    def kept(boxes: Any, scores: Any, iou: float, limit: int) -> Any:
        per_class = op.Unsqueeze(scores, op.Constant(value_ints=[1]))  # (N, K) -> (N, 1, K)
        chosen = op.NonMaxSuppression(  # (M, 3): image, class, candidate
            boxes,
            per_class,
            op.Constant(value_ints=[limit]),
            op.Constant(value_floats=[iou]),
            op.Constant(value_floats=[NONE / 2]),
        )
        places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)  # (M, 2)
        ones = op.Expand(op.Constant(value_floats=[1.0]), op.Shape(chosen, start=0, end=1))
        zeros = op.Sub(scores, scores)
        return op.Greater(op.ScatterND(zeros, places, ones), op.Constant(value_float=0.5))

    return {torch.ops.mmhybrid.kept_by_nms.default: kept}


def best_boxes(
    boxes: Tensor, scores: Tensor, labels: Tensor, nms: dict, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best boxes of each image, after NMS within each class, best first.

    Args:
        boxes: ``(N, K, 4)``, in pixels.
        scores: ``(N, K)``; candidates of less than 0 are none.
        labels: ``(N, K)``.
        nms: of a host's ``test_cfg``.
        limit: how many are returned, or all K where these are fewer.

    Returns:
        Boxes ``(N, limit, 4)``, scores ``(N, limit)`` and labels ``(N, limit)``; rows beyond an
        image's last box have zeros and the label -1.
    """
    check_nms(nms)
    apart = boxes
    if not nms.get('class_agnostic', False):
        # Classes are moved apart by more than an image, so that none meets another.
        span = boxes.amax((1, 2), keepdim=True) + 1  # (N, 1, 1)
        apart = boxes + labels.unsqueeze(2).to(boxes.dtype) * span
    kept = kept_by_nms(apart, scores, float(nms['iou_threshold']), limit)
    scores, order = torch.where(kept, scores, NONE).topk(min(limit, scores.shape[1]))
    boxes, labels = rows_at(boxes, order), labels.gather(1, order)
    real = scores >= 0
    return boxes * real.unsqueeze(2), scores * real, torch.where(real, labels, -1)


def rows_at(rows: Tensor, order: Tensor) -> Tensor:
    """Return rows ``(N, K, C)`` in an order ``(N, M)``: ``(N, M, C)``."""
    return rows.gather(1, order.unsqueeze(2).expand(-1, -1, rows.shape[2]))


def check_nms(nms: dict | None) -> None:
    """Raise unless a host's NMS is the plain one."""
    if not nms or nms.get('type', 'nms') != 'nms' or 'iou_threshold' not in nms:
        raise ExportError(
            f"test_cfg asks for nms={nms}; one file holds dict(type='nms', iou_threshold=...): "
            'set that by --cfg-options, or export the layers alone with --layers'
        )
