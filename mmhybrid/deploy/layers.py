"""Layers of models as modules of one image in and a flat tuple of tensors out."""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ExportError

if TYPE_CHECKING:
    from mmengine.model import BaseModel


class Segmentor(nn.Module):
    """Class logits ``(N, classes, H, W)`` of the image's size."""

    def __init__(self, model: 'BaseModel'):
        super().__init__()
        self.backbone, self.neck = model.backbone, getattr(model, 'neck', None)
        head = model.decode_head
        self.head = head[-1] if isinstance(head, nn.ModuleList) else head
        if self.head is not head:
            raise ExportError('cascaded segmentors cannot be exported; export the backbone alone')
        check_takes_maps(head)
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
        check_takes_maps(self.head)

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


class Upsample(nn.Module):
    """mmseg's ``Upsample`` by a whole number.

    The original rounds the sides by ``int``, which makes constants of those of the example.
    """

    def __init__(self, factor: int, mode: str, align_corners: bool | None):
        super().__init__()
        self.factor, self.mode, self.align_corners = factor, mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        size = tuple(side * self.factor for side in x.shape[2:])
        return F.interpolate(x, size, mode=self.mode, align_corners=self.align_corners)

    @classmethod
    def of(cls, module: Any) -> 'Upsample':
        """Make one of mmseg's.

        Raises:
            ExportError: its factor is no whole number.
        """
        factor = module.scale_factor
        if not isinstance(factor, float) or factor % 1:
            raise ExportError(
                f'upsampling by {factor} cannot be exported for any size: expected a whole number; '
                'give --fixed-size'
            )
        return cls(int(factor), module.mode, module.align_corners)


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


def check_takes_maps(head: nn.Module) -> None:
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
