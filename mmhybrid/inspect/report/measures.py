"""The measures of a report's records: scores by class and size, confusions, scores of images."""

import contextlib
import io
from dataclasses import dataclass, field

import numpy as np

from mmhybrid.inspect.report.records import IGNORED, unpack_map

SIZES = ('all', 'small', 'medium', 'large')


@dataclass
class Measures:
    """The measures that a report shows of an evaluation.

    Attributes:
        classes: their names.
        tables: title -> (header, rows); the first column names a class, others are numbers.
        curves: title -> label -> (recall, precision).
        confusion: counts, a row for each true class and a column for each predicted one; after the
            classes of a detector stands "nothing".
        labels: of the confusion's rows.
        scores: of each image, 0 to 1, in the order of the records; how they are meant is in
            ``score_name``.
        bars: title -> label -> value in [0, 1].
    """

    classes: list[str]
    score_name: str
    scores: np.ndarray
    confusion: np.ndarray
    labels: list[str]
    tables: dict[str, tuple[list[str], list[list]]] = field(default_factory=dict)
    curves: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)
    bars: dict[str, dict[str, float]] = field(default_factory=dict)


def measure(scope: str, records: list[dict], classes: list[str], score_thr: float) -> Measures:
    """Measures of the records of one host library."""
    if scope == 'mmdet':
        return measure_detection(records, classes, score_thr)
    if scope == 'mmseg':
        return measure_segmentation(records, classes)
    return measure_classification(records, classes)


# Detection


def measure_detection(records: list[dict], classes: list[str], score_thr: float) -> Measures:
    """COCO's AP by class and size; the confusions of what scores at least ``score_thr``."""
    counts = np.zeros((len(classes) + 1, len(classes) + 1), int)
    scores = []
    for record in records:
        pairs = match(record, score_thr)
        for true, predicted in pairs:
            counts[true, predicted] += 1
        right = sum(true == predicted for true, predicted in pairs)
        scores.append(2 * right / max(sum((t >= 0) + (p >= 0) for t, p in pairs), 1))
        if not pairs:
            scores[-1] = 1.0
    measures = Measures(
        classes,
        f'F1 of objects at IoU 0.5 and score {score_thr:g}',
        np.array(scores),
        counts,
        [*classes, 'nothing'],
    )
    kinds = [('bbox', 'Boxes')]
    if any(one['mask'] is not None for record in records for one in record['found']):
        kinds.append(('segm', 'Masks'))
    for kind, title in kinds:
        precision, objects = coco_precision(records, classes, kind)
        header = ['class', 'AP', 'AP50', 'AP75', *(f'AP {size}' for size in SIZES[1:])]
        header += ['objects', *SIZES[1:]]
        rows = []
        for k, name in enumerate([*classes, 'mean']):
            one = slice(None) if name == 'mean' else slice(k, k + 1)
            values = [_mean(precision[:, :, one, 0]), _mean(precision[0, :, one, 0])]
            values += [_mean(precision[5, :, one, 0])]
            values += [_mean(precision[:, :, one, a]) for a in (1, 2, 3)]
            total = objects.sum(0) if name == 'mean' else objects[k]
            rows.append([name, *values, *total.tolist()])
        measures.tables[f'{title}: average precision'] = header, rows
        measures.bars[f'{title}: AP by class'] = {row[0]: row[1] for row in rows}
        measures.bars[f'{title}: AP by size'] = {
            size: _mean(precision[:, :, :, a]) for a, size in enumerate(SIZES)
        }
        recall = np.linspace(0, 1, precision.shape[1])
        curves = {'mean, IoU 0.5': (recall, _mean_over(precision[0, :, :, 0]))}
        curves['mean, IoU 0.75'] = (recall, _mean_over(precision[5, :, :, 0]))
        if len(classes) <= 8:
            for k, name in enumerate(classes):
                if objects[k, 0]:
                    curves[name] = (recall, precision[0, :, k, 0])
        measures.curves[f'{title}: precision and recall, classes at IoU 0.5'] = curves
    return measures


def match(record: dict, score_thr: float, min_iou: float = 0.5) -> list[tuple[int, int]]:
    """Pairs (true label, predicted label), -1 for none: the better scored choose first.

    Where several true objects overlap enough, one of the predicted class is preferred. What lies on
    an ignored object counts for nothing.
    """
    truth = [one for one in record['truth'] if not one['ignore']]
    ignored = [one['bbox'] for one in record['truth'] if one['ignore']]
    found = [one for one in record['found'] if one['score'] >= score_thr]
    found.sort(key=lambda one: -one['score'])
    pairs, free = [], set(range(len(truth)))
    ious = box_ious([one['bbox'] for one in found], [one['bbox'] for one in truth])
    covered = box_ious([one['bbox'] for one in found], ignored, of_first=True)
    for i, one in enumerate(found):
        near = [j for j in free if ious[i, j] >= min_iou]
        if near:
            best = max(near, key=lambda j: (truth[j]['label'] == one['label'], ious[i, j]))
            free.remove(best)
            pairs.append((truth[best]['label'], one['label']))
        elif not (covered[i] >= min_iou).any():
            pairs.append((-1, one['label']))
    return pairs + [(truth[j]['label'], -1) for j in sorted(free)]


def box_ious(first: list, second: list, of_first: bool = False) -> np.ndarray:
    """IoU of each pair of boxes x1, y1, x2, y2; or the intersection over the first one's area."""
    a = np.asarray(first, float).reshape(-1, 1, 4)
    b = np.asarray(second, float).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = sides.clip(min=0).prod(-1)
    area_a = (a[..., 2:] - a[..., :2]).prod(-1)
    area_b = (b[..., 2:] - b[..., :2]).prod(-1)
    whole = area_a + 0 * area_b if of_first else area_a + area_b - shared
    return shared / np.maximum(whole, 1e-9)


def coco_precision(
    records: list[dict], classes: list[str], kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """COCO's precision ``(10 IoUs, 101 recalls, classes, 4 sizes)``, NaN where there are no
    objects, and the number of objects ``(classes, 4 sizes)``."""
    from pycocotools import mask as coco_mask
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images: list[dict] = []
    truths: list[dict] = []
    results: list[dict] = []
    for number, record in enumerate(records, 1):
        images.append(dict(id=number, height=record['height'], width=record['width']))
        for one in record['truth']:
            x1, y1, x2, y2 = one['bbox']
            area, outline = (x2 - x1) * (y2 - y1), [[x1, y1, x2, y1, x2, y2, x1, y2]]
            if one['mask'] is not None:
                area, outline = float(coco_mask.area(one['mask'])), one['mask']
            truths.append(
                dict(
                    id=len(truths) + 1,
                    image_id=number,
                    category_id=one['label'] + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=area,
                    iscrowd=int(one['ignore']),
                    segmentation=outline,
                )
            )
        for one in record['found']:
            x1, y1, x2, y2 = one['bbox']
            result = dict(image_id=number, category_id=one['label'] + 1, score=one['score'])
            if kind == 'segm':
                result['segmentation'] = one['mask']
            else:
                result['bbox'] = [x1, y1, x2 - x1, y2 - y1]
            results.append(result)
    categories = [dict(id=i, name=name) for i, name in enumerate(classes, 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = dict(images=images, annotations=truths, categories=categories)
        coco.createIndex()
        objects = np.zeros((len(classes), len(SIZES)), int)
        for one in truths:
            if not one['iscrowd']:
                size = 1 + (one['area'] >= 32**2) + (one['area'] >= 96**2)
                objects[one['category_id'] - 1, [0, size]] += 1
        if not results:
            precision = np.zeros((10, 101, len(classes), len(SIZES)))
        else:
            evaluation = COCOeval(coco, coco.loadRes(results), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            precision = evaluation.eval['precision'][..., -1]
    precision = np.where(precision < 0, np.nan, precision)
    precision[:, :, objects == 0] = np.nan
    return precision, objects


def _mean(values: np.ndarray) -> float:
    """The mean of what is a number; NaN where nothing is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float('nan')


def _mean_over(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis, without classes that have no objects."""
    present = ~np.isnan(values).all(axis=0)
    return values[:, present].mean(axis=1) if present.any() else np.zeros(len(values))


# Segmentation


def measure_segmentation(records: list[dict], classes: list[str]) -> Measures:
    """IoU, precision and recall of each class over all pixels."""
    count = len(classes)
    total, scores = np.zeros((count, count), np.int64), []
    for record in records:
        truth, found = unpack_map(record['truth']), unpack_map(record['found'])
        known = truth < min(count, IGNORED)
        pairs = truth[known] * count + found[known]
        counts = np.bincount(pairs.ravel(), minlength=count * count).reshape(count, count)
        total += counts
        scores.append(np.nan_to_num(np.nanmean(_ious(counts)[0]), nan=1.0))
    ious, precision, recall = _ious(total)
    shares = total.sum(1) / max(total.sum(), 1)
    header = ['class', 'IoU', 'precision', 'recall', 'share of pixels']
    rows: list[list] = [
        [name, float(ious[i]), float(precision[i]), float(recall[i]), float(shares[i])]
        for i, name in enumerate(classes)
    ]
    rows.append(['mean', *(float(np.nanmean(v)) for v in (ious, precision, recall)), 1.0])
    measures = Measures(classes, 'mean IoU of its classes', np.array(scores), total, [*classes])
    measures.tables['Pixels by class'] = header, rows
    measures.bars['IoU by class'] = {row[0]: row[1] for row in rows}
    return measures


def _ious(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """IoU, precision and recall; NaN of classes that are not there."""
    right, true, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    with np.errstate(invalid='ignore', divide='ignore'):
        return right / (true + predicted - right), right / predicted, right / true


# Classification


def measure_classification(records: list[dict], classes: list[str]) -> Measures:
    """Precision and recall of each class, and over all scores."""
    count = len(classes)
    counts = np.zeros((count, count), np.int64)
    for record in records:
        counts[record['truth'], record['found'][0]] += 1
    _, precision, recall = _ious(counts)
    rows: list[list] = [
        [name, float(precision[i]), float(recall[i]), int(counts[i].sum())]
        for i, name in enumerate(classes)
    ]
    rows.append(['mean', float(np.nanmean(precision)), float(np.nanmean(recall)), len(records)])
    scores = np.array([record['chance'] for record in records])
    measures = Measures(classes, 'score of the true class', scores, counts, [*classes])
    measures.tables['Images by class'] = ['class', 'precision', 'recall', 'images'], rows
    measures.bars['Recall by class'] = {row[0]: row[2] for row in rows}
    top = {
        f'top {k}': float(np.mean([record['truth'] in record['found'][:k] for record in records]))
        for k in (1, 5)
        if k < count
    }
    measures.bars['Accuracy'] = top
    if all(record['scores'] is not None for record in records):
        values = np.stack([record['scores'] for record in records]).astype(float)
        truth = np.eye(count, dtype=bool)[[record['truth'] for record in records]]
        curves = {'all classes': precision_recall(values.ravel(), truth.ravel())}
        if count <= 8:
            for i, name in enumerate(classes):
                curves[name] = precision_recall(values[:, i], truth[:, i])
        measures.curves['Precision and recall, one class against the rest'] = curves
    return measures


def precision_recall(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision at each distinct score, from the highest on."""
    order = np.argsort(-scores, kind='stable')
    right = truth[order].cumsum()
    last = np.append(np.diff(scores[order]) != 0, True)  # of equal scores only the last counts
    return right[last] / max(truth.sum(), 1), right[last] / (np.flatnonzero(last) + 1)
