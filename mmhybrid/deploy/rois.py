"""Boxes and masks of two-stage and cascaded detectors, as plain tensors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .dense import DenseBoxes, Padding, Size, check_activation, cut, plain
from .errors import ExportError
from .nms import NONE, best_boxes, check_nms

if TYPE_CHECKING:
    from mmengine.model import BaseModel


EMPTY = 1e-3
"""Pixels: a box with a side of at most this many is empty."""


class RoIResults(nn.Module):
    """Image to boxes, scores, labels and masks of a detector with RoI heads, and its raw outputs.

    Args:
        layers: gives the neck's maps and the levels of each output of the RPN.
        pasted: masks of the image's size, bool; else of the mask head's, the probabilities.

    Raises:
        ExportError: the RoI head is none of Faster, Mask or Cascade R-CNN.
    """

    def __init__(self, layers: Any, model: 'BaseModel', *, pasted: bool = False):
        super().__init__()
        from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead

        roi_head = model.roi_head
        known = (StandardRoIHead, CascadeRoIHead)
        ways = ('predict_bbox', 'predict_mask')
        same = any(
            all(getattr(type(roi_head), way) is getattr(one, way) for way in ways) for one in known
        )
        if not same or getattr(roi_head, 'with_shared_head', False):
            raise ExportError(
                f'the results of a {type(roi_head).__name__} are not among those that a file can '
                'hold: expected Faster, Mask or Cascade R-CNN; export the layers alone with '
                '--layers, or the backbone by name'
            )
        self.layers: Any = layers
        self.pad = Padding(model)
        self.proposals = DenseBoxes(model.rpn_head, model.rpn_head.test_cfg)
        self.cfg = roi_head.test_cfg
        check_nms(self.cfg.get('nms'))
        self.box_heads: Any = stages(roi_head.bbox_head)
        for head in self.box_heads:
            check_activation(head)
        self.box_features = nn.ModuleList(
            RoIFeatures(one) for one in stages(roi_head.bbox_roi_extractor)
        )
        self.mask_heads: Any = None
        self.mask_features: Any = None
        if roi_head.with_mask:
            self.mask_heads = stages(roi_head.mask_head)
            self.mask_features = nn.ModuleList(
                RoIFeatures(one) for one in stages(roi_head.mask_roi_extractor)
            )
        self.pasted = pasted

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        size = tuple(image.shape[2:])
        maps, *rpn = self.layers.outputs(self.pad(image))
        proposals, _, levels = self.proposals(rpn, size)
        found = self._boxes(maps, proposals, levels >= 0, size)
        if self.mask_heads is not None:
            found = (*found, self._masks(maps, found[0], found[2], size))
        return (*found, *maps, *(level for levels in rpn for level in levels))

    def _boxes(self, maps, proposals, real, size):
        """Classify and refine proposals ``(N, P, 4)``, of which some are ``real`` ``(N, P)``."""
        boxes: Tensor = proposals
        total: Any = 0
        for stage, (head, features) in enumerate(
            zip(self.box_heads, self.box_features, strict=True)
        ):
            logits, deltas = head(features(maps, boxes))  # (N P, classes + 1), (N P, 4 or more)
            total = total + logits
            if stage < len(self.box_heads) - 1:
                refined = head.regress_by_class(
                    boxes.flatten(0, 1), logits[:, :-1].argmax(1), deltas, dict(img_shape=None)
                )
                boxes = cut(plain(refined).view_as(boxes), size, head.bbox_coder)
        scores = (total / len(self.box_heads)).softmax(-1)[:, :-1]
        classes = scores.shape[1]
        # (N P, classes) -> (N, P, classes)
        scores = scores.unflatten(0, boxes.shape[:2])
        scores = torch.where((scores > self.cfg.score_thr) & real.unsqueeze(2), scores, NONE)
        per_box = 1 if head.reg_class_agnostic else classes
        # (N, P, 4) -> (N P per_box, 4)
        origins = boxes.flatten(0, 1).repeat_interleave(per_box, dim=0)
        found = plain(head.bbox_coder.decode(origins, deltas.reshape(-1, 4)))
        found = cut(found, size, head.bbox_coder)
        # (N P per_box, 4) -> (N, P, classes, 4)
        found = found.view(*boxes.shape[:2], per_box, 4).expand(-1, -1, classes, -1)
        labels = torch.arange(classes, device=scores.device).expand_as(scores)
        return best_boxes(
            found.flatten(1, 2),
            scores.flatten(1),
            labels.flatten(1),
            self.cfg.nms,
            self.cfg.max_per_img,
        )

    def _masks(self, maps, boxes, labels, size):
        """Return the masks of boxes ``(N, M, 4)``: ``(N, M, h, w)``, or pasted ``(N, M, H, W)``."""
        total: Any = 0
        for head, features in zip(self.mask_heads, self.mask_features, strict=True):
            total = total + head(features(maps, boxes)).sigmoid()  # (N M, classes or 1, h, w)
        masks = total / len(self.mask_heads)
        if head.class_agnostic:
            masks = masks[:, 0]
        else:
            rows = torch.arange(masks.shape[0], device=masks.device)
            masks = masks[rows, labels.flatten().clamp(min=0)]
        masks = masks.unflatten(0, labels.shape)  # (N M, h, w) -> (N, M, h, w)
        if not self.pasted:
            return masks
        return paste(masks, boxes, size) >= self.cfg.mask_thr_binary


class RoIFeatures(nn.Module):
    """RoIAlign from the level that fits a box's size, as mmdet's ``SingleRoIExtractor``."""

    def __init__(self, extractor: Any):
        super().__init__()
        from mmcv.ops import RoIAlign
        from mmdet.models.roi_heads import SingleRoIExtractor

        kinds = {type(extractor).__name__, *(type(one).__name__ for one in extractor.roi_layers)}
        if kinds != {SingleRoIExtractor.__name__, RoIAlign.__name__}:
            raise ExportError(
                f'RoI features by {", ".join(sorted(kinds))} are not among those that a file can '
                'hold: expected a SingleRoIExtractor with RoIAlign; export the layers alone with '
                '--layers'
            )
        self.extractor: Any = extractor

    def forward(self, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Return the features of boxes ``(N, P, 4)``: ``(N P, C, h, w)``."""
        import torchvision  # noqa: F401, registers the operator

        count = boxes.shape[:2]
        images = torch.arange(count[0], device=boxes.device, dtype=boxes.dtype)
        images = images.view(-1, 1, 1).expand(-1, count[1], 1)  # (N) -> (N, P, 1)
        rois = torch.cat((images, boxes), dim=2).flatten(0, 1)  # (N P, 5)
        layers = self.extractor.roi_layers
        levels = self.extractor.map_roi_levels(rois, len(layers))
        filled = (rois[:, 3:] - rois[:, 1:3]).amin(1) > EMPTY  # (N P)
        features = []
        for level, (layer, one) in enumerate(zip(layers, maps[: len(layers)], strict=True)):
            here = levels == level
            # With samples by its size an empty box has none: zeros in torch, nan in OpenVINO.
            if layer.aligned and layer.sampling_ratio == 0:
                here = here & filled
            here = here.unsqueeze(1)  # (N P, 1)
            # An empty box takes no samples: each level costs what its own boxes take.
            found = torch.ops.torchvision.roi_align(
                one,
                torch.cat((rois[:, :1], rois[:, 1:] * here), dim=1),
                layer.spatial_scale,
                *layer.output_size,
                layer.sampling_ratio,
                layer.aligned,
            )
            features.append(torch.where(here.unflatten(1, (1, 1, 1)), found, 0.0))
        return torch.stack(features).sum(0)


def stages(heads: nn.Module) -> nn.ModuleList:
    """Return the heads of a cascade's stages; of others the one."""
    return heads if isinstance(heads, nn.ModuleList) else nn.ModuleList([heads])


def paste(masks: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Resize masks ``(N, M, h, w)`` bilinearly into their boxes ``(N, M, 4)``: ``(N, M, H, W)``.

    The two sides are resized one after the other by products, which are cheaper than sampling.
    """
    (rows, columns), (height, width) = masks.shape[2:], size
    x1, y1, x2, y2 = boxes.unbind(2)
    return _shares(y1, y2, rows, height) @ masks @ _shares(x1, x2, columns, width).mT


def _shares(first: Tensor, last: Tensor, count: int, length: int) -> Tensor:
    """Return the share that each of ``count`` cells between two ends has in each pixel.

    The ends are ``(N, M)``, the shares ``(N, M, length, count)``.
    """
    pixels = torch.arange(length, device=first.device, dtype=first.dtype) + 0.5
    extent = (last - first).clamp(min=1e-6).unsqueeze(2)
    position = (pixels - first.unsqueeze(2)) / extent * count - 0.5  # (N, M, length)
    cells = torch.arange(count, device=first.device, dtype=first.dtype)
    return (1 - (position.unsqueeze(3) - cells).abs()).clamp(min=0)
