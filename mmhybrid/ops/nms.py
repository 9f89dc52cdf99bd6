"""Non-maximum suppression: the plain, the soft and the matching form."""

import numpy as np
import torch
import torchvision  # noqa: F401, registers the operators
from torch import Tensor

from .common import can_read, shape, single

NAIVE, LINEAR, GAUSSIAN = range(3)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy suppression of boxes that overlap one of a higher score.

    Args:
        boxes: ``(N, 4)``, x1, y1, x2, y2.
        scores: ``(N,)``; of equal ones that counts as higher which torch's sort puts first.
        iou_threshold: boxes with a larger overlap go.
        offset: what is added to every width and height, 0 or 1.

    Returns:
        Indices of the boxes that are kept, int64, by descending score.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, or, on a CPU, a value is not a number.
    """
    _check_boxes('nms', boxes, scores)
    if not len(boxes):
        return torch.empty(0, dtype=torch.long, device=boxes.device)
    # In float64 a corner moved by the offset is exact, so that overlaps are as without moving it.
    is_double = offset != 0 or torch.float64 in (boxes.dtype, scores.dtype)
    dtype = torch.float64 if is_double else torch.float32
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    if offset:
        boxes = torch.cat((boxes[:, :2], boxes[:, 2:] + offset), 1)
    if not is_double:
        # mmcv compares in float32: an overlap of exactly 0.6 is not larger than 0.6.
        iou_threshold = single(iou_threshold)
    # The sort of compiled mmcv, which decides between equal scores, and is not torchvision's.
    scores, order = scores.sort(0, descending=True)
    return order[torch.ops.torchvision.nms(boxes[order], scores, iou_threshold)]


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Suppression that lowers scores instead of dropping boxes.

    The box of the highest score is taken, those that are left lose score by their overlap with it,
    and so on. All on the CPU, where mmcv has it.

    Args:
        boxes, scores, offset: as for :func:`nms`.
        dets: ``(N, 5)``, filled with the boxes and their new scores in the order they are taken.
        iou_threshold: smallest overlap that costs score; the Gaussian form has none.
        sigma: width of the Gaussian.
        min_score: boxes below it are dropped.
        method: 0 (naive: all of the score goes), 1 (linear) or 2 (Gaussian).

    Returns:
        Indices of the boxes in that order, int64: as many as were kept.

    Raises:
        ValueError: as for :func:`nms`.
    """
    _check_boxes('softnms', boxes, scores)
    precision = np.float64 if boxes.dtype == torch.float64 else np.float32
    # x1, y1, x2, y2 and score of the boxes; those that are still to be taken stand from i to n.
    rows = torch.cat((boxes, scores.to(boxes).unsqueeze(1)), 1).T.double().numpy()
    rows = np.ascontiguousarray(rows, dtype=precision)  # (5, N)
    extra, threshold = precision(offset), precision(iou_threshold)
    areas = (rows[2] - rows[0] + extra) * (rows[3] - rows[1] + extra)
    order, n, i = np.arange(len(boxes)), len(boxes), 0
    with np.errstate(invalid='ignore', divide='ignore'):  # boxes of no area overlap by 0 / 0
        while i < n:
            best = i + int(rows[4, i:n].argmax())
            for array in (rows.T, areas, order):
                array[[i, best]] = array[[best, i]]
            others = slice(i + 1, n)
            overlap = _overlaps(rows[:, i], areas[i], rows[:, others], areas[others], extra)
            score: np.ndarray = rows[4, others]
            if method == GAUSSIAN:
                # Boxes of no area cost nothing: in compiled mmcv the score is not a number then.
                score *= np.exp(-np.square(np.nan_to_num(overlap)) / precision(sigma))
            else:
                loss = 1 if method == NAIVE else overlap
                score *= np.where(overlap >= threshold, 1 - loss, 1).astype(precision)
            kept: np.ndarray = score >= precision(min_score)
            left = int(kept.sum())
            if left < len(kept):
                # Gaps are filled from the end, as in mmcv: it decides which of equal scores leads.
                gaps = i + 1 + np.flatnonzero(~kept[:left])
                fill = i + 1 + left + np.flatnonzero(kept[left:])[::-1]
                rows[:, gaps], areas[gaps], order[gaps] = rows[:, fill], areas[fill], order[fill]
            i, n = i + 1, i + 1 + left
    dets[:n] = torch.from_numpy(rows[:, :n].T.copy()).to(dets)
    return torch.from_numpy(order[:n].copy())


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Greedy suppression that says which boxes each kept one stands for.

    Args:
        dets: ``(N, 5)``, boxes and scores.
        iou_threshold: smallest overlap that suppresses.

    Returns:
        For each kept box, by descending score, its index and those of the boxes it suppressed.

    Raises:
        ValueError: as for :func:`nms`.
    """
    if dets.dim() != 2 or dets.shape[1] != 5:
        raise ValueError(f'nms_match: expected boxes and scores of shape (N, 5), got {shape(dets)}')
    _check_boxes('nms_match', dets[:, :4], dets[:, 4])
    precision = np.float64 if dets.dtype == torch.float64 else np.float32
    left = dets[:, 4].sort(0, descending=True).indices.numpy()
    rows = dets.double().numpy().astype(precision).T  # (5, N)
    areas = (rows[2] - rows[0]) * (rows[3] - rows[1])
    groups = []
    with np.errstate(invalid='ignore', divide='ignore'):
        while len(left):
            first, others = left[0], left[1:]
            overlap = _overlaps(rows[:, first], areas[first], rows[:, others], areas[others], 0)
            is_matched = overlap >= precision(iou_threshold)
            groups.append([int(first), *others[is_matched].tolist()])
            left = others[~is_matched]
    return groups


def _overlaps(box, area, others, areas, extra):
    """Intersection over union of a box ``(4 or 5,)`` with others ``(4 or 5, M)``.

    That of two boxes of no area is not a number, and so not larger than any threshold.
    """
    width = np.minimum(box[2], others[2]) - np.maximum(box[0], others[0]) + extra
    height = np.minimum(box[3], others[3]) - np.maximum(box[1], others[1]) + extra
    inter = np.maximum(width, 0) * np.maximum(height, 0)
    return inter / (area + areas - inter)


def _check_boxes(operator: str, boxes: Tensor, scores: Tensor) -> None:
    if (
        boxes.dim() != 2
        or boxes.shape[1] != 4
        or scores.shape != boxes.shape[:1]
        or not (boxes.is_floating_point() and scores.is_floating_point())
        or boxes.device != scores.device
    ):
        raise ValueError(
            f'{operator}: expected floating point boxes (N, 4) and scores (N,) on one device, got '
            f'boxes {shape(boxes)} and scores {shape(scores)}'
        )
    for name, values in (('boxes', boxes), ('scores', scores)):
        if can_read(values) and values.isnan().any():
            raise ValueError(
                f'{operator}: {int(values.isnan().sum())} values of the {name} {shape(values)} are '
                'not numbers; a training that gives them has diverged: try a lower learning rate'
            )
