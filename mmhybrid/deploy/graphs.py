"""The graphs to export: of a backbone, a segmentor, a classifier or a detector.

A graph is a module of one tensor in and a flat tuple of named tensors out. Most models are one
graph. A two-stage detector is several: one from the image to the maps of its neck and the raw
outputs of its RPN, and ``box`` and ``mask`` from pooled RoI features to theirs; the proposals, NMS
and RoI pooling between them are left to who runs them.
"""

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mmhybrid

from ..lora import merge_lora
from ..models.layers import MSDeformAttention
from .errors import ExportError

if TYPE_CHECKING:
    from mmengine.model import BaseModel, BaseModule

DEFORM = ('grid_sample', 'gather')
"""Forms of deformable sampling that can be exported."""


@dataclass
class Graph:
    """One file's worth of a model.

    Attributes:
        module: gives a flat tuple of tensors.
        outputs: their names.
        example: an input; its batch is not 1 and its sides are odd where they are free.
        free: names of the dimensions of the input that are free, by index.
        name: ``''`` for the graph that takes the image, else the part of the model.
        meta: entries to write into the file.
        size: (H, W) where the image's size is fixed.
    """

    module: nn.Module
    outputs: list[str]
    example: Tensor
    free: dict[int, str]
    name: str = ''
    meta: dict = field(default_factory=dict)
    size: tuple[int, int] | None = None

    @property
    def input(self) -> str:
        """Name of the input."""
        return 'roi_features' if self.name else 'image'


def backbone_graph(
    backbone: 'BaseModule', *, size: tuple[int, int] | None = None, name: str | None = None
) -> Graph:
    """Make the graph of a backbone alone: ``map_0`` and so on, fine to coarse, and ``logits``.

    Args:
        size: (H, W) of the images, None for any.
        name: the name in the file.
    """
    size = _fixed_size(backbone, size)
    outputs = [f'map_{i}' for i in range(len(backbone.out_channels))]
    if getattr(backbone, 'head', None) is not None:
        outputs.append('logits')
    meta = _meta('backbone', backbone, name or type(backbone).__name__)
    return _image_graph(backbone, outputs, meta, size, backbone.in_channels)


def config_graphs(
    model: 'BaseModel',
    *,
    name: str,
    classes: Sequence[str] | None = None,
    with_preprocessing: bool = False,
    size: tuple[int, int] | None = None,
) -> list[Graph]:
    """Make the graphs of a host's model, the one that takes the image first.

    Args:
        model: a detector, segmentor or classifier, built.
        name: the name in the files.
        classes: names that are written into them.
        with_preprocessing: take RGB images of values 0 to 255 and normalise them inside; else they
            come normalised, as the model's ``data_preprocessor`` would.
        size: (H, W) of the images, None for any.
    """
    size = _fixed_size(model.backbone, size)
    module: nn.Module
    parts: list[Graph] = []
    layout: list[int] | None = None
    if hasattr(model, 'decode_head'):
        kind, module, outputs = 'segmentor', Segmentor(model), ['logits']
    elif hasattr(model, 'rpn_head') and hasattr(model, 'roi_head'):
        kind, module = 'detector', TwoStage(model)
        parts = _roi_graphs(model)
        layout = _layout(module, size)
        outputs = _leveled(('map', 'rpn_cls_score', 'rpn_bbox_pred'), layout)
    elif hasattr(model, 'bbox_head') and hasattr(model, 'extract_feat'):
        kind, module = 'detector', SingleStage(model)
        layout = _layout(module, size)
        extra = [f'extra_{i}' for i in range(len(layout) - 2)]
        outputs = _leveled(['cls_score', 'bbox_pred', *extra], layout)
    elif hasattr(model, 'head') and hasattr(model, 'extract_feat'):
        kind, module, outputs = 'classifier', Classifier(model), ['logits']
    else:
        raise ExportError(
            f'{name}: a {type(model).__name__} is no single-stage or two-stage detector, segmentor '
            'or classifier; export its backbone alone by name'
        )
    meta = _meta(kind, model.backbone, name)
    meta.update(layout=layout, classes=list(classes) if classes else None)
    meta['parts'] = [part.name for part in parts]
    meta.update(_normalisation(model, with_preprocessing))
    if with_preprocessing:
        module = Preprocessed(module, meta)
    channels = getattr(model.backbone, 'in_channels', 3)
    for part in parts:
        part.meta = dict(
            mmhybrid=mmhybrid.__version__, kind=f'{part.name} head', name=name, parts=[]
        )
    return [_image_graph(module, outputs, meta, size, channels), *parts]


def prepare(graph: Graph, deform: str) -> nn.Module:
    """Copy the graph's module with everything replaced that no standard operator equals."""
    if deform not in DEFORM:
        raise ExportError(f'unknown form of deformable sampling {deform!r}; use one of {DEFORM}')
    for name, parameter in graph.module.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise ExportError(
                f'files compute in float32, but {name} is of {parameter.dtype}: call .float() on '
                'the model first'
            )
    module = merge_lora(copy.deepcopy(graph.module).eval())
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
                setattr(parent, name, AdaptivePool(_output_size(child)))
        if isinstance(parent, MSDeformAttention):
            parent.backend = deform
    return module


# Modules of one image in and a flat tuple out


class Segmentor(nn.Module):
    """Class logits ``(N, classes, H, W)`` of the image's size."""

    def __init__(self, model: 'BaseModel'):
        super().__init__()
        self.backbone, self.neck = model.backbone, getattr(model, 'neck', None)
        head = model.decode_head
        self.head = head[-1] if isinstance(head, nn.ModuleList) else head
        if self.head is not head:
            raise ExportError('cascaded segmentors cannot be exported; export the backbone alone')
        _check_takes_maps(head)
        self.corners = bool(head.align_corners)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.backbone(image)
        logits = self.head(maps if self.neck is None else self.neck(maps))
        size = tuple(image.shape[2:])
        return (F.interpolate(logits, size=size, mode='bilinear', align_corners=self.corners),)


class Classifier(nn.Module):
    """Class logits ``(N, classes)``."""

    def __init__(self, model: 'BaseModel'):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (self.model.head(self.model.extract_feat(image)),)


class SingleStage(nn.Module):
    """All levels of the head's first output, then of its second, and so on."""

    def __init__(self, model: 'BaseModel'):
        super().__init__()
        self.backbone, self.neck = model.backbone, getattr(model, 'neck', None)
        self.head = self.dense_head(model)
        _check_takes_maps(self.head)

    @staticmethod
    def dense_head(model: 'BaseModel') -> nn.Module:
        """Return the head that takes the maps."""
        return model.bbox_head

    def maps(self, image: Tensor) -> Sequence[Tensor]:
        """Return the neck's maps, or the backbone's."""
        maps = self.backbone(image)
        return maps if self.neck is None else self.neck(maps)

    def outputs(self, image: Tensor) -> tuple[Sequence[Tensor], ...]:
        """Return the levels of each of the head's outputs."""
        return self.head(self.maps(image))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(out for levels in self.outputs(image) for out in levels)


class TwoStage(SingleStage):
    """The neck's maps, then the RPN's scores and deltas."""

    @staticmethod
    def dense_head(model: 'BaseModel') -> nn.Module:
        """Return the RPN's head."""
        return model.rpn_head

    def outputs(self, image: Tensor) -> tuple[Sequence[Tensor], ...]:
        """Return the maps, then the levels of each of the RPN's outputs."""
        maps = self.maps(image)
        return (maps, *self.head(maps))


class Flat(nn.Module):
    """A head whose output is one tensor or several."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        outs = self.module(features)
        return tuple(outs) if isinstance(outs, (tuple, list)) else (outs,)


class Preprocessed(nn.Module):
    """A graph that normalises its images, RGB of values 0 to 255."""

    mean: Tensor
    std: Tensor

    def __init__(self, module: nn.Module, meta: dict):
        super().__init__()
        self.module = module
        self.is_bgr = meta['channel_order'] == 'BGR'
        for name in ('mean', 'std'):
            self.register_buffer(name, torch.tensor(meta[name]).view(-1, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        if self.is_bgr:
            image = image.flip(1)
        return self.module((image - self.mean) / self.std)


class AdaptivePool(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as two matrix products, which exist for images of any size."""

    def __init__(self, output_size: tuple[int, int]):
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        rows = self._means(x.shape[2], self.output_size[0], x)
        columns = self._means(x.shape[3], self.output_size[1], x)
        return rows @ x @ columns.T

    @staticmethod
    def _means(old: int, new: int, like: Tensor) -> Tensor:
        """Return a matrix ``(new, old)``; row i is the mean of i old / new to (i + 1) old / new."""
        target = torch.arange(new, device=like.device).unsqueeze(1)
        source = torch.arange(old, device=like.device)
        inside = (source >= target * old // new) & (source * new < (target + 1) * old)
        inside = inside.to(like.dtype)
        return inside / inside.sum(1, keepdim=True)


# Facts that a graph needs


def _output_size(pool: nn.AdaptiveAvgPool2d) -> tuple[int, int]:
    size = pool.output_size
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    if height is None or width is None:
        raise ExportError(
            f'a pooling to {size} cannot be exported: expected a height and a width; export the '
            'backbone alone'
        )
    return height, width


def _check_takes_maps(head: nn.Module) -> None:
    """Raise where a head's forward needs more than maps, such as queries or data samples."""
    parameters = inspect.signature(head.forward).parameters.values()
    needed = [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if len(needed) > 1:
        raise ExportError(
            f'the head {type(head).__name__} cannot be exported: expected one that takes maps '
            f'alone, its forward needs {", ".join(needed)}; export the backbone alone'
        )


def _image_graph(
    module: nn.Module, outputs: list[str], meta: dict, size: tuple[int, int] | None, channels: int
) -> Graph:
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(2, channels, *(size or (75, 110)), generator=generator)
    if meta.get('preprocessing'):
        example = (example * 60 + 120).clamp(0, 255)
    free = {0: 'batch'} if size else {0: 'batch', 2: 'height', 3: 'width'}
    meta = dict(meta, size=size)
    return Graph(module.eval(), outputs, example, free, meta=meta, size=size)


def _roi_graphs(model: 'BaseModel') -> list[Graph]:
    roi_head = model.roi_head
    if isinstance(roi_head.bbox_head, nn.ModuleList) or getattr(
        roi_head, 'with_shared_head', False
    ):
        raise ExportError(
            f'the heads of a {type(roi_head).__name__} cannot be exported: expected one box head '
            'and at most one mask head (Faster R-CNN, Mask R-CNN); export the backbone alone'
        )
    graphs = []
    heads = dict(box=('bbox', ['cls_score', 'bbox_pred']), mask=('mask', ['mask_logits']))
    for name, (prefix, outputs) in heads.items():
        head = getattr(roi_head, f'{prefix}_head', None)
        if head is None:
            continue
        extractor = getattr(roi_head, f'{prefix}_roi_extractor')
        side = extractor.roi_layers[0].output_size
        features = torch.randn(3, extractor.out_channels, *side)
        graphs.append(Graph(Flat(head).eval(), outputs, features, {0: 'rois'}, name=name))
    return graphs


def _layout(module: SingleStage, size: tuple[int, int] | None) -> list[int]:
    """Count the levels of each output of a detector."""
    image = torch.zeros(1, getattr(module.backbone, 'in_channels', 3), *(size or (64, 64)))
    module.eval()
    with torch.no_grad():
        outputs = module.outputs(image)
    if not isinstance(outputs, (tuple, list)) or not all(
        isinstance(levels, (tuple, list)) for levels in outputs
    ):
        raise ExportError(
            f'the head {type(module.head).__name__} does not give a list of maps for '
            'each of its outputs; export the backbone alone'
        )
    return [len(levels) for levels in outputs]


def _leveled(names: Sequence[str], layout: Sequence[int]) -> list[str]:
    return [f'{name}_{i}' for name, n in zip(names, layout, strict=True) for i in range(n)]


def _fixed_size(backbone: 'BaseModule', size: tuple[int, int] | None) -> tuple[int, int] | None:
    if not getattr(backbone, 'tied_to_size', False):
        return (size[0], size[1]) if size else None
    if size is not None and tuple(size) != backbone.image_size:
        raise ExportError(
            f'this {type(backbone).__name__} is tied to images of {backbone.image_size[0]}x'
            f'{backbone.image_size[1]} pixels, got the fixed size {size[0]}x{size[1]}'
        )
    return backbone.image_size


def _meta(kind: str, backbone: nn.Module, name: str) -> dict:
    return dict(
        mmhybrid=mmhybrid.__version__,
        kind=kind,
        name=name,
        strides=list(getattr(backbone, 'out_strides', ())) or None,
        preprocessing=False,
        mean=None,
        std=None,
        channel_order='RGB',
        classes=None,
        layout=None,
        parts=[],
    )


def _normalisation(model: nn.Module, wanted: bool) -> dict:
    """Return mean, deviation and order of channels that the model was trained with."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    if mean is None or std is None:
        if wanted:
            raise ExportError(
                'the model has no data_preprocessor with mean and std to put into the file'
            )
        return {}
    # The hosts' images are BGR files that the preprocessor may turn.
    turns = any(
        getattr(preprocessor, name, False)
        for name in ('_channel_conversion', 'channel_conversion', 'to_rgb')
    )
    return dict(
        preprocessing=wanted,
        mean=mean.flatten().tolist(),
        std=std.flatten().tolist(),
        channel_order='RGB' if turns else 'BGR',
    )
