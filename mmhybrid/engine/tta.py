"""Test-time augmentation of detectors, masks too."""

from typing import Any

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor
from torchvision.ops import batched_nms

from mmhybrid.registry import MODELS


@MODELS.register_module()
class DetectorTTA(BaseTTAModel):
    """Predicts views of an image, and keeps the best of the boxes that overlap in a class.

    mmdet's own refuses masks. A mask follows its box: it comes from the view that is surest of the
    object, turned back.

    Args:
        iou_threshold: of two boxes of a class that are both kept.
        max_per_img: objects that are kept; all if it is negative.
        kwargs: those of mmengine's wrapper: ``module``, the detector.
    """

    def __init__(self, iou_threshold: float = 0.5, max_per_img: int = 100, **kwargs: Any):
        super().__init__(**kwargs)
        self.iou_threshold, self.max_per_img = iou_threshold, max_per_img

    def test_step(self, data: dict) -> list:
        """Predict each view of each image, and join them.

        The detector is not told of flips: mmdet's cascades would turn the masks of a flipped view
        back by themselves, though not its boxes, and fail at it.
        """
        for view in data['data_samples']:
            for sample in view:
                turned = sample.flip_direction if sample.get('flip') else None
                sample.set_metainfo(dict(turned=turned, flip=False, flip_direction=None))
        return super().test_step(data)

    def merge_preds(self, data_samples_list: list) -> list:
        """Join the views of each image; the sample of the first view carries the result."""
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views):
        merged = InstanceData.cat([_unflipped(view) for view in views])
        keep = batched_nms(merged.bboxes, merged.scores, merged.labels, self.iou_threshold)
        sample = views[0]
        sample.pred_instances = merged[keep if self.max_per_img < 0 else keep[: self.max_per_img]]
        return sample


def _unflipped(sample) -> InstanceData:
    """Return the objects of a view as they lie in the image."""
    found = sample.pred_instances
    height, width = sample.ori_shape[:2]
    across = sample.turned in ('horizontal', 'diagonal')
    down = sample.turned in ('vertical', 'diagonal')
    found.bboxes = flip_boxes(found.bboxes, width if across else None, height if down else None)
    if 'masks' in found:
        turned = [dim for dim, is_turned in ((-2, down), (-1, across)) if is_turned]
        found.masks = found.masks.flip(turned)
    return found


def flip_boxes(boxes: Tensor, width: int | None = None, height: int | None = None) -> Tensor:
    """Flip boxes (n, 4), x1 y1 x2 y2 in pixels, in an image of a width, a height, or both."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    if width is not None:
        x1, x2 = width - x2, width - x1
    if height is not None:
        y1, y2 = height - y2, height - y1
    return torch.stack((x1, y1, x2, y2), dim=-1)
