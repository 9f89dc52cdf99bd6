"""The record of each evaluated image in a report, of simple values, from a host's data sample."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

IGNORED = 255  # in class maps: no class
MAX_SCORED_CLASSES = 200
"""Classifiers of more classes keep no scores of all classes, but of the best alone."""


class Recorder:
    """Turns the data samples of one evaluation into records.

    Args:
        scope: ``'mmdet'``, ``'mmseg'`` or ``'mmpretrain'``.
        dataset: the evaluated data set of that library.
    """

    def __init__(self, scope: str, dataset: Any):
        take = {
            'mmdet': self._detection,
            'mmseg': self._segmentation,
            'mmpretrain': self._classification,
        }.get(scope)
        if take is None:
            raise ValueError(f'a report of {scope!r}: expected mmdet, mmseg or mmpretrain')
        self.take, self.dataset = take, dataset
        self.meta = {key.lower(): value for key, value in (dataset.metainfo or {}).items()}
        self._infos: dict[Any, Mapping] | None = None

    def _info(self, sample) -> Mapping:
        """Return the data set's facts about a sample's image; pipelines may resize its boxes."""
        if self._infos is None:
            infos = (self.dataset.get_data_info(i) for i in range(len(self.dataset)))
            self._infos = {info['img_id']: info for info in infos}
        return self._infos[sample.img_id]

    def _detection(self, sample) -> dict:
        info = self._info(sample)
        height, width = sample.ori_shape[:2]
        truth = [
            dict(
                bbox=[float(v) for v in one['bbox']],
                label=int(one['bbox_label']),
                mask=encode_mask(one.get('mask'), height, width),
                ignore=bool(one.get('ignore_flag', 0)),
            )
            for one in info['instances']
        ]
        found = sample.pred_instances.cpu()
        masks = found.masks.numpy() if 'masks' in found else [None] * len(found)
        predictions = [
            dict(
                bbox=box.tolist(),
                label=int(label),
                score=float(score),
                mask=encode_mask(mask, height, width),
            )
            for box, label, score, mask in zip(
                found.bboxes, found.labels, found.scores, masks, strict=True
            )
        ]
        return dict(
            id=sample.img_id,
            path=info['img_path'],
            height=height,
            width=width,
            truth=truth,
            found=predictions,
        )

    def _segmentation(self, sample) -> dict:
        truth = sample.gt_sem_seg.data[0].cpu().numpy()
        ignored = getattr(self.dataset, 'ignore_index', IGNORED)  # several data sets have none
        truth = np.where(truth == ignored, IGNORED, truth)
        found = sample.pred_sem_seg.data[0].cpu().numpy()
        if truth.shape != found.shape:
            raise ValueError(
                f'{sample.img_path}: the class map has {truth.shape} pixels, the prediction '
                f'{found.shape}; put LoadAnnotations after Resize in the test pipeline'
            )
        return dict(
            id=sample.img_path,
            path=sample.img_path,
            truth=pack_map(truth),
            found=pack_map(found),
        )

    def _classification(self, sample) -> dict:
        scores = sample.pred_score.float().cpu().numpy()
        best = np.argsort(-scores)[:5].tolist()
        truth = int(sample.gt_label[0])
        return dict(
            id=sample.img_path,
            path=sample.img_path,
            truth=truth,
            found=best,
            best=[float(scores[i]) for i in best],
            chance=float(scores[truth]),
            scores=scores.astype(np.float16) if len(scores) <= MAX_SCORED_CLASSES else None,
        )


def encode_mask(mask: Any, height: int, width: int) -> dict | None:
    """COCO run lengths, compressed, of polygons, run lengths or a map ``(H, W)``; None of None."""
    from pycocotools import mask as coco

    if mask is None or (isinstance(mask, list) and not mask):
        return None
    if isinstance(mask, list):
        return coco.merge(coco.frPyObjects(mask, height, width))
    if isinstance(mask, Mapping):
        whole = isinstance(mask['counts'], list)
        return coco.frPyObjects(dict(mask), height, width) if whole else dict(mask)
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


def decode_mask(code: dict | None) -> np.ndarray | None:
    """``(H, W)`` bool of COCO run lengths."""
    from pycocotools import mask as coco

    return None if code is None else coco.decode(code).astype(bool)


def pack_map(class_map: np.ndarray) -> bytes:
    """A class map as a PNG, of 16 bits where 8 are not enough."""
    kind = np.uint8 if class_map.max(initial=0) < 256 else np.uint16
    return cv2.imencode('.png', class_map.astype(kind))[1].tobytes()


def unpack_map(png: bytes) -> np.ndarray:
    """The class map that :func:`pack_map` packed."""
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None  # pack_map wrote it
    return image.astype(np.int64)
