"""A host's model whose layers run from exported files; pipeline, NMS and metrics are the host's."""

from collections.abc import Sequence
from types import MethodType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .errors import ExportError
from .exported import Exported, unflatten

if TYPE_CHECKING:
    from mmengine.model import BaseModel


def run_exported(model: 'BaseModel', exported: Exported) -> 'BaseModel':
    """Let a detector, segmentor or classifier take its outputs from an exported file.

    Args:
        model: built from the config that was exported; needs no weights. It is changed.
        exported: of :func:`load_exported`.

    Returns:
        The model; ``test_step`` and ``predict`` work as before, training does not.

    Raises:
        ExportError: the file holds another kind of model.
    """
    kind = exported.meta['kind']
    run = _Images(exported)
    if kind == 'segmentor' and hasattr(model, 'decode_head'):
        model.encode_decode = lambda inputs, batch_img_metas: run(inputs)[0]
    elif kind == 'classifier' and hasattr(model, 'head'):
        model.extract_feat = run
        model.head.forward = lambda outs: outs[0]
    elif kind == 'detector' and exported.meta['parts'] and hasattr(model, 'roi_head'):
        model.extract_feat = lambda inputs: _Maps(unflatten(run(inputs), exported.meta['layout']))
        model.rpn_head.forward = lambda maps: maps.rpn
        for name, part in exported.parts.items():
            head = getattr(model.roi_head, dict(box='bbox_head', mask='mask_head')[name])
            head.forward = _Head(part)
    elif kind == 'detector' and not exported.meta['parts'] and hasattr(model, 'bbox_head'):
        model.extract_feat = run
        model.bbox_head.forward = lambda outs: unflatten(outs, exported.meta['layout'])
    else:
        raise ExportError(
            f'{exported.path} holds the {kind} {exported.meta["name"]}, which does not fit a '
            f'{type(model).__name__}'
        )
    # Never run again.
    model.backbone = nn.Identity()
    if getattr(model, 'neck', None) is not None:
        model.neck = nn.Identity()
    model.train = MethodType(_refuse_training, model)
    return model.eval()


class _Images:
    """Images as the host normalised them, through a file that may normalise them itself."""

    def __init__(self, exported: Exported):
        self.exported = exported

    def __call__(self, images: Tensor) -> list[Tensor]:
        meta = self.exported.meta
        if meta['preprocessing']:
            mean, std = (torch.tensor(meta[key], device=images.device) for key in ('mean', 'std'))
            images = images * std.view(-1, 1, 1) + mean.view(-1, 1, 1)
            if meta['channel_order'] == 'BGR':
                images = images.flip(1)
        return self.exported(images)


class _Maps(tuple):
    """A neck's maps, which carry the RPN's outputs with them."""

    rpn: tuple[list[Tensor], ...]

    def __new__(cls, outputs: Sequence[list[Tensor]]) -> '_Maps':
        maps, *rpn = outputs
        self = super().__new__(cls, maps)
        self.rpn = tuple(rpn)
        return self


class _Head:
    """A RoI head's part."""

    def __init__(self, exported: Exported):
        self.exported = exported

    def __call__(self, features: Tensor) -> Tensor | tuple[Tensor, ...]:
        outs = self.exported(features)
        return outs[0] if len(outs) == 1 else tuple(outs)


def _refuse_training(self: nn.Module, mode: bool = True) -> nn.Module:
    if mode:
        raise ExportError(f'a {type(self).__name__} that runs an exported file cannot be trained')
    return type(self).train(self, mode)
