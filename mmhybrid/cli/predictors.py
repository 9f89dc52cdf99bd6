"""Predictions of a trained model for images in memory, whole or in tiles, as plain values.

A predictor has `scope`, `classes`, `colors` (n, 3) and one method, `predict(images)`: RGB images
(H, W, 3) uint8 to as many dicts,

    mmdet       objects: dicts of bbox (x1, y1, x2, y2), label, score, mask (H, W) bool or None;
                has_masks
    mmseg       class_map (H, W) int; with keep_logits also logits (C, H, W) float32
    mmpretrain  scores (C,)

`open_predictor` chooses one by the file's suffix.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.palette import palette
from ..deploy.errors import FORMATS
from ..inspect.report.measures import box_ious
from .datasets import classes_of, trained_classes
from .launch import load_model
from .usage import UsageError

if TYPE_CHECKING:
    from mmengine.config import Config


def open_predictor(cfg: 'Config', model_file: Path, options: Iterable[str] = ()) -> Any:
    """The predictor of a model file; ``options`` are names that the user changed in the config.

    Raises:
        UsageError: no predictor reads files of this kind.
    """
    opener = PREDICTORS.get(model_file.suffix)
    if opener is None:
        raise UsageError(
            f'{model_file} is no model to predict with: expected {", ".join(PREDICTORS)}'
        )
    return opener(cfg, model_file, options=options)


class Predictor:
    """A trained model of a config, from a checkpoint or an exported file, with its test pipeline.

    ``model`` is one that is in memory, to be taken in place of a file, ``options`` are names that
    the user changed in the config.

    Raises:
        UsageError, CheckpointError, ExportError: the file is not one of the config's, classes have
            no names, or the test pipeline does not begin with reading an image file.
    """

    def __init__(
        self,
        cfg: 'Config',
        checkpoint: Any = None,
        model: Any = None,
        options: Iterable[str] = (),
    ):
        from mmengine.dataset import Compose
        from mmengine.device import get_device
        from mmengine.model import revert_sync_batchnorm
        from mmengine.registry import MODELS, DefaultScope

        self.scope = cfg.default_scope
        self.keep_logits = False
        # The scope is entered by name each time: another model of another scope may be alive.
        self._in_scope = lambda: DefaultScope.overwrite_default_scope(self.scope)
        dataset = cfg.test_dataloader.dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        loader, *steps = [s for s in dataset.pipeline if not _loads_annotations(s)]
        if _kind(loader) != 'LoadImageFromFile':
            raise UsageError(
                f'the test pipeline begins with {_kind(loader)}; expected LoadImageFromFile'
            )
        self._as_float = loader.get('to_float32', False)
        with self._in_scope():
            self.model = model or revert_sync_batchnorm(MODELS.build(cfg.model))
            self._prepare = Compose(steps)
        meta = load_model(self.model, checkpoint, options) if model is None else {}
        self.classes: Any = trained_classes(checkpoint, meta, classes_of(cfg, 'test'))
        if self.classes is None:
            raise UsageError(f'neither {checkpoint} nor the config names the classes')
        colors = meta.get('palette')
        given = isinstance(colors, (list, tuple)) and len(colors) == len(self.classes)
        self.colors = np.array(colors if given else palette(len(self.classes)), np.uint8)
        self.model.to(get_device())
        self.model.eval()

    def predict(self, images: Sequence[np.ndarray]) -> list[dict]:
        """One dict for each image; see the head of this file."""
        import torch
        from mmengine.dataset import pseudo_collate

        with self._in_scope(), torch.no_grad():
            prepared = [self._prepare(self._as_read(image)) for image in images]
            # Of one size a batch, so that no image is padded for another.
            groups: dict[tuple, list[int]] = {}
            for index, data in enumerate(prepared):
                groups.setdefault(tuple(data['inputs'].shape), []).append(index)
            found: list = [None] * len(images)
            for indices in groups.values():
                batch = pseudo_collate([prepared[i] for i in indices])
                samples = self.model.test_step(batch)
                for index, sample in zip(indices, samples, strict=True):
                    found[index] = self._plain(sample)
        return found

    def _as_read(self, image):
        """Return the result that LoadImageFromFile would give."""
        bgr = image[..., ::-1].copy()
        size = image.shape[:2]
        return dict(
            img=bgr.astype(np.float32) if self._as_float else bgr,
            img_shape=size,
            ori_shape=size,
            scale_factor=(1.0, 1.0),
            img_path='',
            img_id=0,
        )

    def _plain(self, sample):
        if self.scope == 'mmdet':
            found = sample.pred_instances.cpu()
            masks = found.masks.numpy() if 'masks' in found else [None] * len(found)
            parts = (found.bboxes, found.labels, found.scores, masks)
            objects = [
                dict(bbox=box.tolist(), label=int(label), score=float(score), mask=mask)
                for box, label, score, mask in zip(*parts, strict=True)
            ]
            return dict(objects=objects, has_masks='masks' in found)
        if self.scope == 'mmpretrain':
            return dict(scores=sample.pred_score.float().cpu().numpy())
        found = dict(class_map=sample.pred_sem_seg.data[0].cpu().numpy())
        if self.keep_logits:
            found['logits'] = sample.seg_logits.data.float().cpu().numpy()
        return found


PREDICTORS = dict.fromkeys(('.pth', *FORMATS), Predictor)


def _kind(step):
    name = step['type'] if isinstance(step['type'], str) else step['type'].__name__
    return name.split('.')[-1]


def _loads_annotations(step):
    return _kind(step) in ('LoadAnnotations', 'LoadPanopticAnnotations')


class TiledPredictor:
    """Predicts large images in overlapping square tiles, and joins what it finds.

    Objects: the tiles' are merged by NMS within each class. What a tile's inner border cuts yields
    to what another tile sees whole, and is dropped where that covers it. An object that no tile
    sees whole stays in pieces, so the overlap should be as wide as the objects. Class maps: the
    logits are averaged where tiles overlap.

    Args:
        side: of a tile, in pixels.
        overlap: of neighbours, in pixels, less than half a side.
        batch_size: tiles that are predicted together.
        max_iou: of two objects of a class that are both kept.

    Raises:
        UsageError: a classifier, or an overlap out of range.
    """

    def __init__(
        self, predictor: Any, side: int, overlap: int, batch_size: int = 1, max_iou: float = 0.5
    ):
        if predictor.scope == 'mmpretrain':
            raise UsageError('--tile is for detectors and segmentors, not for classifiers')
        if not 0 <= overlap <= side // 2:
            raise UsageError(
                f'--overlap {overlap}: expected 0 to {side // 2}, half of --tile {side}'
            )
        self.predictor = predictor
        self.scope, self.classes, self.colors = (
            predictor.scope,
            predictor.classes,
            predictor.colors,
        )
        self.side, self.overlap = side, overlap
        self.batch_size, self.max_iou = batch_size, max_iou
        predictor.keep_logits = predictor.scope == 'mmseg'
        # The host has made probabilities of a single channel already.
        head = getattr(getattr(predictor, 'model', None), 'decode_head', None)
        self.threshold = getattr(head, 'threshold', None) or 0.0

    def predict(self, images: Sequence[np.ndarray]) -> list[dict]:
        """Predict each image tile by tile, and join what the tiles show."""
        join = self._objects if self.scope == 'mmdet' else self._class_map
        return [join(image) for image in images]

    def _tiles(self, image):
        """Tuples of (x, y, prediction), row by row."""
        h, w = image.shape[:2]
        corners = [(x, y) for y in starts(h, *self._sizes) for x in starts(w, *self._sizes)]
        for first in range(0, len(corners), self.batch_size):
            batch = corners[first : first + self.batch_size]
            tiles = [image[y : y + self.side, x : x + self.side] for x, y in batch]
            for corner, found in zip(batch, self.predictor.predict(tiles), strict=True):
                yield *corner, found

    @property
    def _sizes(self):
        return self.side, self.overlap

    def _objects(self, image):
        h, w = image.shape[:2]
        objects, has_masks = [], False
        for x, y, found in self._tiles(image):
            has_masks = found['has_masks']
            right, bottom = min(x + self.side, w), min(y + self.side, h)
            for one in found['objects']:
                x1, y1, x2, y2 = one['bbox']
                box = [x1 + x, y1 + y, x2 + x, y2 + y]
                cut = (
                    (x > 0 and x1 < 1)
                    or (y > 0 and y1 < 1)
                    or (right < w and box[2] > right - 1)
                    or (bottom < h and box[3] > bottom - 1)
                )
                objects.append({**one, 'bbox': box, 'cut': cut, 'corner': (x, y)})
        kept = []
        for one in merge_objects(objects, self.max_iou):
            x, y = one.pop('corner')
            one.pop('cut')
            if one['mask'] is not None:
                whole = np.zeros((h, w), bool)
                part = one['mask']
                whole[y : y + part.shape[0], x : x + part.shape[1]] = part
                one['mask'] = whole
            kept.append(one)
        return dict(objects=kept, has_masks=has_masks)

    def _class_map(self, image):
        """Rows that no further tile reaches are finished: only one row of tiles is in memory."""
        h, w = image.shape[:2]
        out = np.zeros((h, w), np.int64)
        total: Any = None  # (classes, rows, w): the first tile tells the classes
        count, top = np.zeros((min(self.side, h), w), np.float32), 0
        for x, y, found in self._tiles(image):
            logits = found['logits']
            if total is None:
                total = np.zeros((len(logits), *count.shape), np.float32)
            if y > top:
                out[top:y] = decide(total[:, : y - top] / count[: y - top], self.threshold)
                total = np.roll(total, top - y, axis=1)
                count = np.roll(count, top - y, axis=0)
                total[:, top - y :], count[top - y :] = 0, 0
                top = y
            rows, columns = logits.shape[1:]
            total[:, :rows, x : x + columns] += logits
            count[:rows, x : x + columns] += 1
        out[top:] = decide(total[:, : h - top] / count[: h - top], self.threshold)
        return dict(class_map=out)


def starts(length: int, side: int, overlap: int) -> list[int]:
    """First pixels of tiles along a length; the last tile ends with it."""
    last = max(length - side, 0)
    return [*range(0, last, side - overlap), last]


def decide(values: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """Classes of logits ``(C, H, W)``; of a single channel whether it is above the threshold."""
    return (values[0] > threshold).astype(np.int64) if len(values) == 1 else values.argmax(0)


def merge_objects(objects: list[dict], max_iou: float) -> list[dict]:
    """Objects without doubles, best scores first; ``cut`` marks those that a border cuts.

    Whole objects come before cut ones. A cut one is also dropped where a kept one of its class
    covers most of it.
    """
    order = sorted(objects, key=lambda one: (one['cut'], -one['score']))
    kept: list[dict] = []
    for one in order:
        rivals = [other['bbox'] for other in kept if other['label'] == one['label']]
        doubled = (box_ious([one['bbox']], rivals) > max_iou).any()
        if one['cut'] and not doubled:
            doubled = (box_ious([one['bbox']], rivals, of_first=True) > max_iou).any()
        if not doubled:
            kept.append(one)
    return sorted(kept, key=lambda one: -one['score'])
