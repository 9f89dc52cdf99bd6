import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from mmhybrid.inspect.report.measures import (
    box_ious,
    match,
    measure_classification,
    measure_detection,
    measure_segmentation,
    precision_recall,
)
from mmhybrid.inspect.report.records import (
    Recorder,
    decode_mask,
    encode_mask,
    pack_map,
    unpack_map,
)


def one(bbox, label, score=None, mask=None, ignore=False):
    extra = dict(ignore=ignore) if score is None else dict(score=score)
    return dict(bbox=bbox, label=label, mask=mask, **extra)


def image(truth, found, number=0):
    return dict(id=number, path='a.jpg', height=200, width=200, truth=truth, found=found)


SMALL, LARGE = [0, 0, 20, 20], [50, 50, 190, 190]


def test_perfect_and_missed_objects():
    records = [
        image([one(SMALL, 0), one(LARGE, 1)], [one(SMALL, 0, 0.9)]),
        image([one(SMALL, 0)], [one(SMALL, 0, 0.8)], 1),
    ]
    measures = measure_detection(records, ['cat', 'dog'], 0.3)
    header, rows = measures.tables['Boxes: average precision']
    cat, dog, mean = (dict(zip(header, row, strict=True)) for row in rows)
    assert cat['AP'] == cat['AP50'] == cat['AP small'] == pytest.approx(1)
    assert math.isnan(cat['AP large']) and (cat['objects'], cat['small']) == (2, 2)
    assert dog['AP'] == dog['AP large'] == 0 and dog['large'] == 1
    assert mean['AP'] == pytest.approx(0.5) and mean['objects'] == 3
    assert measures.bars['Boxes: AP by size']['small'] == pytest.approx(1)
    assert measures.confusion.tolist() == [[2, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert measures.scores.tolist() == pytest.approx([2 * 1 / 3, 1])
    recall, precision = measures.curves['Boxes: precision and recall, classes at IoU 0.5']['cat']
    assert precision.min() == pytest.approx(1) and len(recall) == 101


def test_average_precision_is_cocos_where_boxes_are_off():
    """An IoU of 0.66 counts at 0.5, 0.55, 0.6 and 0.65: 4 of 10 thresholds."""
    records = [image([one([0, 0, 100, 100], 0)], [one([0, 0, 100, 66], 0, 0.9)])]
    header, (row, _) = measure_detection(records, ['a'], 0.3).tables['Boxes: average precision']
    assert dict(zip(header, row, strict=True))['AP'] == pytest.approx(0.4)


def test_masks_and_ignored_objects():
    full, half = np.ones((200, 200), bool), np.zeros((200, 200), bool)
    half[:100] = True
    full, half = (encode_mask(mask, 200, 200) for mask in (full, half))
    crowd = one([100, 0, 200, 50], 0, ignore=True)
    box = [0, 0, 200, 200]
    records = [
        image(
            [one(box, 0, mask=full), crowd],
            [one(box, 0, 0.9, mask=half)],
        )
    ]
    measures = measure_detection(records, ['a'], 0.3)
    tables = {k: dict(zip(*[v[0], v[1][0]], strict=True)) for k, v in measures.tables.items()}
    assert tables['Boxes: average precision']['AP'] == pytest.approx(1)
    assert tables['Masks: average precision']['AP50'] == pytest.approx(1)
    assert tables['Masks: average precision']['AP75'] == 0
    on_crowd = image([crowd], [one([120, 0, 180, 40], 0, 0.7)])
    assert match(on_crowd, 0.3) == []
    assert match(image([], [one(SMALL, 1, 0.7)]), 0.3) == [(-1, 1)]
    assert match(image([], [one(SMALL, 1, 0.2)]), 0.3) == []


def test_a_prediction_takes_the_object_of_its_class():
    record = image([one(SMALL, 0), one([0, 0, 20, 21], 1)], [one(SMALL, 1, 0.9)])
    assert sorted(match(record, 0.3)) == [(0, -1), (1, 1)]


def test_nothing_found_and_nothing_there():
    measures = measure_detection([image([one(SMALL, 0)], []), image([], [], 1)], ['a', 'b'], 0.3)
    _, rows = measures.tables['Boxes: average precision']
    assert rows[0][1] == 0 and math.isnan(rows[1][1])
    assert measures.scores.tolist() == [0, 1]


def test_ious():
    ious = box_ious([[0, 0, 10, 10]], [[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    assert ious[0].tolist() == pytest.approx([1, 1 / 3, 0])
    assert box_ious([[0, 0, 10, 10]], [[5, 0, 50, 10]], of_first=True)[0, 0] == pytest.approx(0.5)
    assert box_ious([], [[0, 0, 1, 1]]).shape == (0, 1)


def test_masks_of_every_form():
    square = np.zeros((8, 10), bool)
    square[2:5, 3:7] = True
    runs = dict(size=[8, 10], counts=[26, 3, 5, 3, 5, 3, 5, 3, 27])
    polygon = [[3, 2, 7, 2, 7, 5, 3, 5]]
    for form in (square, runs, encode_mask(square, 8, 10), polygon):
        assert (decode_mask(encode_mask(form, 8, 10)) == square).all()
    assert encode_mask(None, 8, 10) is None is decode_mask(None)


def test_segmentation():
    truth = np.array([[0, 0, 1, 255]])
    found = np.array([[0, 1, 1, 1]])
    record = dict(id='a', path='a', truth=pack_map(truth), found=pack_map(found))
    measures = measure_segmentation([record], ['sky', 'sea', 'sand'])
    _, rows = measures.tables['Pixels by class']
    assert rows[0][1:] == pytest.approx([1 / 2, 1, 1 / 2, 2 / 3])
    assert rows[1][1:] == pytest.approx([1 / 2, 1 / 2, 1, 1 / 3])
    assert math.isnan(rows[2][1]) and rows[3][1] == pytest.approx(0.5)
    assert measures.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert measures.scores.tolist() == [0.5]
    assert (unpack_map(pack_map(np.array([[300, 5]]))) == [[300, 5]]).all()


@pytest.mark.parametrize('ignored', [0, 255])
def test_pixels_that_a_data_set_ignores(ignored):
    truth, found = torch.tensor([[[0, 0, 1, 2]]]), torch.tensor([[[1, 2, 1, 2]]])
    sample = SimpleNamespace(
        img_path='a', gt_sem_seg=PixelData(data=truth), pred_sem_seg=PixelData(data=found)
    )
    dataset = SimpleNamespace(metainfo=dict(classes=['none', 'a', 'b']), ignore_index=ignored)
    record = Recorder('mmseg', dataset).take(sample)
    measures = measure_segmentation([record], ['none', 'a', 'b'])
    assert measures.scores.tolist() == [1.0 if ignored == 0 else pytest.approx(1 / 3)]


def test_classification():
    def record(truth, scores):
        order = np.argsort(-np.array(scores)).tolist()
        return dict(
            id=str(scores), path='a', truth=truth, found=order, best=sorted(scores)[::-1],
            chance=scores[truth], scores=np.array(scores, np.float16),
        )  # fmt: skip

    records = [record(0, [0.8, 0.2]), record(1, [0.6, 0.4]), record(1, [0.1, 0.9])]
    measures = measure_classification(records, ['a', 'b'])
    _, rows = measures.tables['Images by class']
    assert rows[0] == ['a', 0.5, 1.0, 1] and rows[1] == ['b', 1.0, 0.5, 2]
    assert measures.bars['Accuracy'] == {'top 1': pytest.approx(2 / 3)}
    assert measures.scores.tolist() == [0.8, 0.4, 0.9]


def test_precision_and_recall_at_equal_scores():
    recall, precision = precision_recall(
        np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])
    )
    assert recall.tolist() == [0.5, 1, 1] and precision.tolist() == pytest.approx([1, 2 / 3, 0.5])
