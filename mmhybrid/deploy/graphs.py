"""The graphs to export: of a backbone, a segmentor, a classifier or a detector.

A graph is a module of one tensor in and a flat tuple of named tensors out. Most models are one
graph. A two-stage detector is several: one from the image to the maps of its neck and the raw
outputs of its RPN, and ``box`` and ``mask`` from pooled RoI features to theirs; the proposals, NMS
and RoI pooling between them are left to who runs them.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

import mmhybrid

from ..lora import merge_lora
from ..models.backbones.base import Backbone
from ..models.layers import MSDeformAttention
from .errors import ExportError
from .layers import (
    AdaptivePool,
    Classifier,
    Flat,
    Preprocessed,
    Segmentor,
    SingleStage,
    TwoStage,
    Upsample,
)
from .queries import PlainSampling
from .results import results_of

if TYPE_CHECKING:
    from mmengine.model import BaseModel, BaseModule

DEFORM = ('grid_sample', 'gather')
"""Forms of deformable sampling that can be exported."""

EXAMPLE = (139, 270)
"""An image to trace: no map's stride divides its sides, and at a stride of 128 none has one pixel,
which torch would take for a constant."""


@dataclass
class Graph:
    """One file's worth of a model.

    Attributes:
        module: gives a flat tuple of tensors.
        outputs: their names.
        example: an input; its batch is not 1, and no stride divides a side that is free.
        free: names of the dimensions of the input that are free, by index.
        name: ``''`` for the graph that takes the image, else the part of the model.
        meta: entries to write into the file.
        size: (H, W) where the image's size is fixed.
        inner: names of further outputs of the module, which are compared but not kept in the file:
            decisions are taken from them, and a small difference shows in them first.
    """

    module: nn.Module
    outputs: list[str]
    example: Tensor
    free: dict[int, str]
    name: str = ''
    meta: dict = field(default_factory=dict)
    size: tuple[int, int] | None = None
    inner: list[str] = field(default_factory=list)

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
    layers: bool = False,
    pasted: bool = False,
    reads_bgr: bool = True,
) -> list[Graph]:
    """Make the graphs of a host's model, the one that takes the image first.

    Args:
        model: a detector, segmentor or classifier, built.
        layers: the raw outputs of the layers alone, a two-stage detector in parts; else one graph
            from the image to the final results.
        pasted: of the final results of RoI heads, masks in the image's size.
        name: the name in the files.
        classes: names that are written into them.
        with_preprocessing: take RGB images of values 0 to 255 and normalise them inside; else they
            come normalised, as the model's ``data_preprocessor`` would.
        size: (H, W) of the images, None for any.
        reads_bgr: the pipeline gives BGR, as all do that read files by OpenCV.
    """
    size = _fixed_size(model.backbone, size)
    parts: list[Graph] = []
    layout: list[int] | None = None
    if layers:
        kind, module, outputs, layout = _layers(model, name, size)
        if isinstance(module, TwoStage):
            parts = _roi_graphs(model)
    else:
        kind, module, outputs = results_of(model, pasted=pasted)
    meta = _meta(kind, model.backbone, name)
    meta.update(layout=layout, classes=list(classes) if classes else None)
    meta.update(parts=[part.name for part in parts], results=not layers)
    meta.update(_normalisation(model, with_preprocessing, reads_bgr))
    if with_preprocessing:
        module = Preprocessed(module, meta)
    channels = getattr(model.backbone, 'in_channels', 3)
    for part in parts:
        part.meta = dict(
            mmhybrid=mmhybrid.__version__, kind=f'{part.name} head', name=name, parts=[]
        )
    graph = _image_graph(module, outputs, meta, size, channels)
    if not layers:
        with torch.no_grad():
            count = len(graph.module(graph.example))
        graph.inner = [f'inner_{i}' for i in range(count - len(outputs))]
    return [graph, *parts]


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
        if isinstance(parent, Backbone):
            parent.fuse()  # a batch norm is ten operators to trace
        for name, child in parent.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size not in (1, (1, 1)):
                setattr(parent, name, AdaptivePool(_output_size(child)))
            elif _is_upsample(child) and not (child.size or graph.size):
                setattr(parent, name, Upsample.of(child))
        if isinstance(parent, (MSDeformAttention, PlainSampling)):
            parent.backend = deform
    return module


# Facts that a graph needs


def _is_upsample(module: nn.Module) -> TypeGuard[Any]:
    """Return True for mmseg's ``Upsample``; mmseg need not be installed."""
    kind = type(module)
    return kind.__name__ == 'Upsample' and kind.__module__.startswith('mmseg.')


def _output_size(pool: nn.AdaptiveAvgPool2d) -> tuple[int, int]:
    size = pool.output_size
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    if height is None or width is None:
        raise ExportError(
            f'a pooling to {size} cannot be exported: expected a height and a width; export the '
            'backbone alone'
        )
    return height, width


def _image_graph(
    module: nn.Module, outputs: list[str], meta: dict, size: tuple[int, int] | None, channels: int
) -> Graph:
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(2, channels, *(size or EXAMPLE), generator=generator)
    if meta.get('preprocessing'):
        example = (example * 60 + 120).clamp(0, 255)
    free = {0: 'batch'} if size else {0: 'batch', 2: 'height', 3: 'width'}
    meta = dict(meta, size=size)
    return Graph(module.eval(), outputs, example, free, meta=meta, size=size)


def _layers(
    model: 'BaseModel', name: str, size: tuple[int, int] | None
) -> tuple[str, nn.Module, list[str], list[int] | None]:
    """Return kind, module, outputs and layout of the layers of a host's model."""
    if hasattr(model, 'decode_head'):
        return 'segmentor', Segmentor(model), ['logits'], None
    if hasattr(model, 'rpn_head') and hasattr(model, 'roi_head'):
        module = TwoStage(model)
        layout = _layout(module, size)
        names = ['map', 'rpn_cls_score', 'rpn_bbox_pred']
        return 'detector', module, _leveled(names, layout), layout
    if hasattr(model, 'bbox_head') and hasattr(model, 'extract_feat'):
        dense = SingleStage(model)
        layout = _layout(dense, size)
        names = ['cls_score', 'bbox_pred', *(f'extra_{i}' for i in range(len(layout) - 2))]
        return 'detector', dense, _leveled(names, layout), layout
    if hasattr(model, 'head') and hasattr(model, 'extract_feat'):
        return 'classifier', Classifier(model), ['logits'], None
    raise ExportError(
        f'{name}: a {type(model).__name__} is no single-stage or two-stage detector, segmentor '
        'or classifier; export its backbone alone by name'
    )


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


def _normalisation(model: nn.Module, wanted: bool, reads_bgr: bool) -> dict:
    """Return mean, deviation and order of channels that the model was trained with."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    if mean is None or std is None:
        if wanted:
            raise ExportError(
                'the model has no data_preprocessor with mean and std to put into the file'
            )
        return {}
    channels = getattr(getattr(model, 'backbone', None), 'in_channels', 3)
    turns = any(
        getattr(preprocessor, name, False)
        for name in ('_channel_conversion', 'channel_conversion', 'to_rgb')
    )
    return dict(
        preprocessing=wanted,
        mean=mean.flatten().tolist(),
        std=std.flatten().tolist(),
        channel_order=('RGB' if turns == reads_bgr else 'BGR') if channels == 3 else None,
    )
