"""A host's model whose layers run from exported files; pipeline, NMS and metrics are the host's."""

from collections.abc import Sequence
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dense import Size
from .errors import ExportError
from .exported import Exported, unflatten
from .rois import paste

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
        ExportError: the file holds another kind of model, or no masks where the model has them.
    """
    kind = exported.meta['kind']
    run = _Images(exported)
    if kind == 'segmentor' and hasattr(model, 'decode_head'):
        model.encode_decode = lambda inputs, batch_img_metas: run.named(inputs)['logits']
    elif kind == 'classifier' and hasattr(model, 'head'):
        model.extract_feat = run.named
        model.head.forward = lambda outs: outs['logits']
    elif (
        kind == 'detector'
        and exported.meta.get('results')
        and hasattr(model, 'add_pred_to_datasample')
    ):
        if getattr(model, 'with_mask', False) and 'masks' not in exported.outputs:
            raise ExportError(
                f'{exported.path} finds boxes without masks, but the config asks for masks: give '
                'the config of the file'
            )
        model.predict = _Predict(model, run)
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
        """Return the outputs in their order."""
        return list(self.named(images).values())

    def named(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs by name."""
        meta = self.exported.meta
        if meta['preprocessing']:
            mean, std = (torch.tensor(meta[key], device=images.device) for key in ('mean', 'std'))
            images = images * std.view(-1, 1, 1) + mean.view(-1, 1, 1)
            if meta['channel_order'] == 'BGR':
                images = images.flip(1)
        return self.exported.named(images)


class _Predict:
    """A detector's ``predict``, from a file of final results."""

    def __init__(self, model: 'BaseModel', run: _Images):
        self.model, self.run = model, run
        self.threshold = _mask_threshold(model)

    def __call__(self, batch_inputs: Tensor, batch_data_samples: list, rescale: bool = True) -> Any:
        results = []
        for image, sample in zip(batch_inputs, batch_data_samples, strict=True):
            height, width = sample.img_shape[:2]  # without what was padded for its neighbours
            found = self.run.named(image[None, :, :height, :width])
            results.append(self._instances(found, sample, rescale))
        return self.model.add_pred_to_datasample(batch_data_samples, results)

    def _instances(self, found, sample, rescale):
        from mmengine.structures import InstanceData

        real = found['labels'][0] >= 0
        rows = {name: out[0][real] for name, out in found.items()}
        size = sample.ori_shape[:2] if rescale else sample.img_shape[:2]
        boxes = rows['boxes']
        if rescale:
            boxes = boxes / boxes.new_tensor(sample.scale_factor).repeat(2)  # (w, h) -> 4 sides
        instances = InstanceData(bboxes=boxes, scores=rows['scores'], labels=rows['labels'])
        if 'masks' in rows:
            instances.masks = self._masks(rows['masks'], boxes, tuple(size))
        if isinstance(getattr(self.model, 'panoptic_fusion_head', None), nn.Module):
            return dict(ins_results=instances)
        return instances

    def _masks(self, masks, boxes, size):
        """Bring the masks ``(n, h, w)`` of boxes ``(n, 4)`` to a size, ``(n, H, W)`` bool."""
        if masks.dtype == torch.bool and tuple(masks.shape[1:]) == size:
            return masks
        # One by one: together they take the memory of as many images.
        large = [
            resized(mask, size)
            if mask.dtype == torch.bool
            else paste(mask[None, None], box[None, None], size)[0, 0] >= self.threshold
            for mask, box in zip(masks, boxes, strict=True)
        ]
        return torch.stack(large) if large else masks.new_zeros(0, *size, dtype=torch.bool)


def resized(mask: Tensor, size: Size) -> Tensor:
    """Resize a mask ``(h, w)`` bool, whose edges stay smooth: ``(H, W)`` bool."""
    return F.interpolate(mask[None, None].float(), size, mode='bilinear')[0, 0] >= 0.5


def _mask_threshold(model: 'BaseModel') -> float:
    cfg = getattr(getattr(model, 'roi_head', None), 'test_cfg', None)
    return cfg.get('mask_thr_binary', 0.5) if cfg else 0.5


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
