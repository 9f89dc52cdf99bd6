"""Boxes, scores and labels of single-stage detectors and proposals of an RPN, as plain tensors.

They do what the hosts' ``predict_by_feat`` does, for a batch at once and with as many candidates
whatever is found, so that a file can hold it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ExportError
from .nms import NONE, best_boxes, check_nms, rows_at

if TYPE_CHECKING:
    from mmengine.model import BaseModel

Size = tuple[int, int]


class DenseBoxes(nn.Module):
    """Boxes from the raw outputs of a dense head.

    Args:
        head: whose post-processing is that of mmdet's ``BaseDenseHead``, ``RPNHead`` or
            ``GFLHead``.
        cfg: its ``test_cfg``.

    Raises:
        ExportError: it has another.
    """

    def __init__(self, head: Any, cfg: Any):
        super().__init__()
        from mmdet.models.dense_heads import GFLHead, RPNHead
        from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

        way = type(head)._predict_by_feat_single
        known = (BaseDenseHead, RPNHead, GFLHead)
        if all(way is not one._predict_by_feat_single for one in known):
            raise ExportError(
                f'the results of a {type(head).__name__} are not among those that a file can '
                'hold: expected RetinaNet, ATSS, GFL, FCOS, Faster or Mask R-CNN, Cascade; export '
                'the layers alone with --layers'
            )
        check_nms(cfg.get('nms'))
        check_activation(head)
        self.head: Any = head
        self.cfg = cfg
        self.by_level = way is RPNHead._predict_by_feat_single
        self.distributed = way is GFLHead._predict_by_feat_single

    def forward(self, outputs: Sequence[Sequence[Tensor]], size: Size) -> tuple[Tensor, ...]:
        """Return boxes, scores and labels; see :func:`best_boxes`.

        Args:
            outputs: class scores, box deltas, and centerness where the head has it: the levels of
                each, ``(N, channels, h, w)``.
            size: height and width that boxes are cut at.
        """
        sides = [tuple(level.shape[-2:]) for level in outputs[0]]
        priors = self.head.prior_generator.grid_priors(sides, device=outputs[0][0].device)
        levels = zip(*outputs, strict=True)
        found = [self._level(i, *level, priors[i]) for i, level in enumerate(levels)]
        boxes, scores, labels = (torch.cat(part, dim=1) for part in zip(*found, strict=True))
        boxes = cut(boxes, size, self.head.bbox_coder)
        least = self.cfg.get('min_bbox_size', -1)
        if least >= 0:
            large = ((boxes[..., 2:] - boxes[..., :2]) > least).all(2)
            scores = torch.where(large, scores, NONE)
        return best_boxes(boxes, scores, labels, self.cfg.nms, self.cfg.max_per_img)

    def _level(self, level, scores, deltas, *rest):
        """Return the candidates of a level: boxes ``(N, k, 4)``, scores and labels ``(N, k)``."""
        *factor, priors = rest
        scores = activated(self.head, pixels_first(scores, self.head.cls_out_channels))
        if not self.by_level:
            scores = torch.where(scores > self.cfg.get('score_thr', 0), scores, NONE)
        scores, where, labels = best_candidates(scores, self.cfg.get('nms_pre', -1))
        if factor:
            factors = pixels_first(factor[0], 1).sigmoid().squeeze(2).gather(1, where)
            scores = torch.where(scores >= 0, scores * factors, NONE)
        if self.by_level:  # boxes of different levels do not meet
            labels = torch.full_like(labels, level)
        return self._boxes(level, deltas, where, priors), scores, labels

    def _boxes(self, level, deltas, where, priors):
        """Decode the chosen deltas: ``(N, channels, h, w)``, ``(N, k)``, ``(P, 4)`` -> boxes."""
        head, coder = self.head, self.head.bbox_coder
        chosen_priors = priors[where].flatten(0, 1)  # (P, 4) -> (N k, 4)
        if self.distributed:
            width = 4 * (head.reg_max + 1)
            chosen = rows_at(pixels_first(deltas, width), where).flatten(0, 1)  # (N k, width)
            shares = chosen.unflatten(1, (4, -1)).softmax(2)  # (N k, 4, reg_max + 1)
            mean = (shares * head.integral.project).sum(2)
            chosen = mean * head.prior_generator.strides[level][0]
            chosen_priors = head.anchor_center(chosen_priors)
        else:
            chosen = rows_at(pixels_first(deltas, coder.encode_size), where).flatten(0, 1)
        boxes = coder.decode(chosen_priors, chosen)
        return plain(boxes).unflatten(0, where.shape)  # (N k, 4) -> (N, k, 4)


class DenseResults(nn.Module):
    """Image to boxes, scores and labels of a single-stage detector, and its raw outputs."""

    def __init__(self, layers: Any, model: 'BaseModel'):
        super().__init__()
        self.layers: Any = layers
        self.pad = Padding(model)
        self.results = DenseBoxes(model.bbox_head, model.bbox_head.test_cfg)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        outputs = self.layers.outputs(self.pad(image))
        found = self.results(outputs, tuple(image.shape[2:]))
        return (*found, *(level for levels in outputs for level in levels))


class Padding(nn.Module):
    """Pads images at the right and below, as the ``data_preprocessor`` of a model does."""

    def __init__(self, model: 'BaseModel'):
        super().__init__()
        preprocessor = getattr(model, 'data_preprocessor', None)
        self.divisor = getattr(preprocessor, 'pad_size_divisor', 1)
        self.value = float(getattr(preprocessor, 'pad_value', 0))

    def forward(self, image: Tensor) -> Tensor:
        if self.divisor == 1:
            return image
        # Of a side by the remainder of its negative torch does not know that it is positive.
        height, width = (
            (side + self.divisor - 1) // self.divisor * self.divisor - side
            for side in image.shape[2:]
        )
        return F.pad(image, (0, width, 0, height), value=self.value)


def pixels_first(maps: Tensor, width: int) -> Tensor:
    """``(N, A width, h, w) -> (N, h w A, width)``."""
    return maps.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, width))


def check_activation(head: nn.Module) -> None:
    """Refuse a head whose loss turns logits into scores by a rule of its own, as SeesawLoss does.

    Raises:
        ExportError: it is such a head.
    """
    loss = getattr(head, 'loss_cls', None)
    if getattr(loss, 'custom_cls_channels', False) or getattr(loss, 'custom_activation', False):
        raise ExportError(
            f'the scores of {type(loss).__name__} are not among those that a file can hold: '
            'export the layers alone with --layers'
        )


def activated(head: nn.Module, logits: Tensor) -> Tensor:
    """Return the scores of classes, without that of the background, from logits."""
    return logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)[..., :-1]


def best_candidates(scores: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best pairs of a box and a class: scores, places of boxes, classes, ``(N, limit)``.

    Args:
        scores: ``(N, boxes, classes)``. A limit below 1 keeps all; of fewer pairs the rest are
            none: there are as many whatever the image's size.
    """
    classes = scores.shape[2]
    flat = scores.flatten(1)
    if limit > 0:
        flat, pairs = F.pad(flat, (0, limit), value=NONE).topk(limit)
        pairs = torch.where(flat >= 0, pairs, 0)
    else:
        pairs = torch.arange(flat.shape[1], device=flat.device).expand_as(flat)
    return flat, pairs // classes, pairs % classes


def cut(boxes: Tensor, size: Size, coder: Any) -> Tensor:
    """Cut boxes ``(..., 4)`` at the borders of an image where their coder does so."""
    if not getattr(coder, 'clip_border', True):
        return boxes
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(-1)
    x1, x2 = x1.clamp(0, width), x2.clamp(0, width)
    y1, y2 = y1.clamp(0, height), y2.clamp(0, height)
    return torch.stack((x1, y1, x2, y2), dim=-1)


def plain(boxes: Any) -> Tensor:
    """Return the tensor of boxes, which mmdet may wrap."""
    return getattr(boxes, 'tensor', boxes)
