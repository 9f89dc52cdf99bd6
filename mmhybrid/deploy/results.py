"""Whole models as one graph each: from an image to what is found on it."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from .dense import DenseResults
from .errors import ExportError
from .layers import Classifier, Segmentor, SingleStage, TwoStage
from .queries import DinoResults, MaskResults, QuerySegmentor
from .rois import RoIResults

if TYPE_CHECKING:
    from mmengine.model import BaseModel

SUPPORTED = (
    'RetinaNet, ATSS, GFL, FCOS, Faster, Mask and Cascade R-CNN, DINO, Mask2Former, segmentors and '
    'classifiers'
)


class Results(NamedTuple):
    """A graph's kind, module, and the names of its first outputs; the others are raw ones."""

    kind: str
    module: nn.Module
    outputs: list[str]


def results_of(model: 'BaseModel', *, pasted: bool = False) -> Results:
    """Make the module from an image to the final results of a host's model.

    Args:
        pasted: masks of RoI heads in the image's size, else in the mask head's.

    Returns:
        Of a detector ``boxes``, ``scores``, ``labels`` and perhaps ``masks``; of a segmentor
        ``class_map`` and ``logits``; of a classifier ``scores``, ``labels`` and ``logits``.

    Raises:
        ExportError: a file cannot hold the results of such a model.
    """
    objects = ['boxes', 'scores', 'labels']
    if hasattr(model, 'decode_head'):
        return Results('segmentor', ClassMap(model), ['class_map', 'logits'])
    if hasattr(model, 'panoptic_head'):
        return Results('detector', MaskResults(model), [*objects, 'masks'])
    if hasattr(model, 'rpn_head') and hasattr(model, 'roi_head'):
        rois = RoIResults(TwoStage(model), model, pasted=pasted)
        names = objects if rois.mask_heads is None else [*objects, 'masks']
        return Results('detector', rois, names)
    if hasattr(model, 'bbox_head') and hasattr(model, 'decoder'):
        return Results('detector', DinoResults(model), objects)
    if hasattr(model, 'bbox_head') and hasattr(model, 'extract_feat'):
        return Results('detector', DenseResults(SingleStage(model), model), objects)
    if hasattr(model, 'head') and hasattr(model, 'extract_feat'):
        return Results('classifier', ClassScores(model), ['scores', 'labels', 'logits'])
    raise ExportError(
        f'the results of a {type(model).__name__} are not among those that a file can hold: '
        f'expected {SUPPORTED}; export its backbone alone by name'
    )


class ClassMap(nn.Module):
    """Image to classes of pixels ``(N, H, W)`` and logits ``(N, classes, H, W)``."""

    def __init__(self, model: 'BaseModel'):
        super().__init__()
        head = model.decode_head
        self.layers: nn.Module
        if type(head).__name__ == 'Mask2FormerHead':
            self.layers = QuerySegmentor(model)
        else:
            self.layers = Segmentor(model)
        self.threshold = getattr(head, 'threshold', None)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        (logits,) = self.layers(image)
        if logits.shape[1] == 1:
            return (logits[:, 0].sigmoid() > self.threshold).long(), logits
        return logits.argmax(1), logits


class ClassScores(nn.Module):
    """Image to scores of classes ``(N, classes)``, the best one ``(N)`` and the logits."""

    def __init__(self, model: 'BaseModel'):
        super().__init__()
        from mmpretrain.models.heads import MultiLabelClsHead

        if isinstance(model.head, MultiLabelClsHead):
            raise ExportError(
                'a file holds the results of classifiers of one label an image; export the '
                'layers alone with --layers'
            )
        self.layers = Classifier(model)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        (logits,) = self.layers(image)
        return torch.softmax(logits, 1), logits.argmax(1), logits
