"""Boxes and outlines of the same objects: what does not agree is named with counts."""

import copy

import numpy as np
import pytest
from pycocotools import mask as coco

from mmhybrid.data.check.outlines import bounds_of, report_outlines
from mmhybrid.data.findings import Findings

WIDTH, HEIGHT = 200, 160


def content(count=20):
    """Objects whose box is that of their outline, a quarter of them with another corner first."""
    rng = np.random.default_rng(0)
    annotations = []
    for i in range(count):
        x, y = rng.integers(1, 90, 2).tolist()
        w, h = rng.integers(20, 60, 2).tolist()
        outline = [x, y, x + w, y + h / 2, x + w / 2, y + h, x, y]
        annotations.append(dict(id=i + 1, image_id=1, category_id=1, area=w * h / 2, iscrowd=0,
                                bbox=[x, y, w, h], segmentation=[outline]))  # fmt: skip
    return dict(
        images=[dict(id=1, file_name='a.jpg', width=WIDTH, height=HEIGHT)],
        categories=[dict(id=1, name='part')],
        annotations=annotations,
    )


def lines_of(content, masks=None):
    findings = Findings()
    report_outlines(findings, content, None, masks=masks)
    return findings.lines()


def changed(change, count=20, of=1):
    given = content(count)
    for row in given['annotations'][::of]:
        change(row)
    return given


def to_corners(row):
    x, y, w, h = row['bbox']
    row['bbox'] = [x, y, x + w, y + h]


def test_boxes_that_agree():
    assert lines_of(content()) == lines_of(content(), True) == lines_of(content(), False) == []
    # Half pixels and rounding are nothing, however small the object.
    assert lines_of(changed(lambda row: row.update(bbox=[v + 1.4 for v in row['bbox']]))) == []


def test_corners():
    (line,) = lines_of(changed(to_corners))
    assert line.startswith('error: 20 of 20 boxes are not those of their outlines; they look like')
    assert 'corners x1, y1, x2, y2: write x, y, width, height' in line
    (line,) = lines_of(changed(to_corners, of=4))
    assert line.startswith('error: 5 of 20 boxes') and 'corners' in line


def test_corners_without_outlines():
    def change(row):
        to_corners(row)
        row['segmentation'] = []

    (line,) = lines_of(changed(change))
    reach = sum(
        2 * row['bbox'][0] + row['bbox'][2] > WIDTH + 1
        or 2 * row['bbox'][1] + row['bbox'][3] > HEIGHT + 1
        for row in content()['annotations']
    )
    assert 5 < reach < 20
    assert line.startswith(f'error: {reach} of 20 boxes reach out of their image; they look like')
    plain = changed(lambda row: row.update(segmentation=[]))
    assert lines_of(plain) == []


@pytest.mark.parametrize(
    ('scale', 'shown'), [((0.5, 0.5), '2 times'), ((1 / 200, 1 / 160), '200 and 160 times')]
)
def test_outlines_at_another_scale(scale, shown):
    def change(row):
        (outline,) = row['segmentation']
        row['segmentation'] = [[value * scale[i % 2] for i, value in enumerate(outline)]]

    (line,) = lines_of(changed(change))
    assert line.startswith('error: 20 of 20 boxes are not those of their outlines; the outlines')
    assert f'the boxes are {shown} as large' in line


def test_some_boxes_of_others():
    def shift(row):
        row['bbox'][0] += 40

    (line,) = lines_of(changed(shift, of=10))
    assert line.startswith('warning: 2 of 20 boxes are not those of their outlines: look at some')
    (line,) = lines_of(changed(shift))
    assert line.startswith('warning: 20 of 20 boxes')
    assert lines_of(changed(shift, count=200, of=100)) == []  # one in a hundred
    crowds = changed(shift)
    for row in crowds['annotations']:
        row['iscrowd'] = 1
    assert lines_of(crowds) == []


@pytest.mark.parametrize('masks', [None, False, True])
def test_boxes_of_whole_objects_beside_outlines_of_visible_parts(masks):
    rng = np.random.default_rng(2)

    def hide(row):
        x, y, w, h = row['bbox']
        seen = h * rng.uniform(0.3, 0.7)  # of a person behind a table
        row['segmentation'] = [[x, y, x + w, y, x + w, y + seen, x, y + seen]]

    (line,) = lines_of(changed(hide), masks)
    assert line.startswith('warning: 20 of 20 boxes are not those of their outlines: look at some')
    assert line.endswith('unless they are meant to differ')


def test_objects_without_outlines():
    some = changed(lambda row: row.update(segmentation=[]), of=2)
    (line,) = lines_of(some, masks=True)
    assert line.startswith(
        'error: 10 of 20 objects have no outline, and this config trains on masks: draw them, '
        'remove these objects, or take a config that needs boxes only'
    )
    (line,) = lines_of(some)
    assert line.startswith('warning: 10 of 20 objects have no outline, without which no masks')
    assert lines_of(some, masks=False) == []
    none = changed(lambda row: row.pop('segmentation'))
    assert lines_of(none) == []
    assert lines_of(none, masks=True)[0].startswith('error: 20 of 20 objects have no outline')


def test_bounds_of_run_lengths():
    rng = np.random.default_rng(1)
    for number in range(40):
        mask = np.zeros((24, 18), np.uint8, order='F')
        x, y = rng.integers(0, 15, 2)
        mask[y : y + rng.integers(1, 9), x : x + rng.integers(1, 9)] = 1
        if number % 4 == 0:
            mask |= rng.random(mask.shape) > 0.97
        if number == 0:
            mask[:] = 1
        if number == 1:  # a run goes on at the top of the next column
            mask[:] = 0
            mask[20:, 3] = mask[:5, 4] = 1
        code = coco.encode(np.asfortranarray(mask))
        x, y, w, h = coco.toBbox(code).tolist()
        text = dict(code, counts=code['counts'].decode())
        assert bounds_of(text, (18, 24)) == (x, y, x + w, y + h)
        flat = mask.ravel(order='F').astype(int)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
        runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
        assert bounds_of(dict(size=[24, 18], counts=runs), (18, 24)) == (x, y, x + w, y + h)
    for wrong in (
        None, [], 'x', {}, dict(size=[24, 18], counts=[5]), dict(size=[24, 18], counts='~~'),
        dict(size=[24, 18], counts=[500, -68]), dict(size=[24, 18], counts=[432]),
        dict(size=[10**9, 10**9], counts=[10**18]), [[1, 2]], [['a'] * 6],
    ):  # fmt: skip
        assert bounds_of(copy.deepcopy(wrong), (18, 24)) is None
