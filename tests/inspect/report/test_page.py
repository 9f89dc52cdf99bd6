import json
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from mmhybrid.inspect.report import charts
from mmhybrid.inspect.report.page import build_page, read_logs
from mmhybrid.inspect.report.records import pack_map


class Checker(HTMLParser):
    """Collects what a page loads and its ids, and whether its tags close."""

    VOID = {'meta', 'img', 'br'}

    def __init__(self):
        super().__init__()
        self.open, self.loaded, self.ids, self.targets = [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.loaded += [attributes[key] for key in ('src', 'srcset') if key in attributes]
        if tag in ('script', 'link', 'iframe', 'object'):
            self.loaded.append(tag)
        self.ids += [attributes['id']] if 'id' in attributes else []
        if attributes.get('href', '').startswith('#'):
            self.targets.append(attributes['href'][1:])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check(page):
    """The page is whole and stands alone."""
    checker = Checker()
    checker.feed(page)
    assert not checker.open
    assert all(source.startswith('data:image/') for source in checker.loaded), checker.loaded
    assert 'http' not in re.sub(r'xmlns(:xlink)?="[^"]*"|<!DOCTYPE[^>]*>', '', page)
    assert len(checker.ids) == len(set(checker.ids)) and set(checker.targets) <= set(checker.ids)
    assert 'prefers-color-scheme: dark' in page and 'width=device-width' in page
    return page


def detections(tmp_path, count=4):
    for number in range(count):
        cv2.imwrite(str(tmp_path / f'{number}.jpg'), np.full((40, 60, 3), 50 * number, np.uint8))
    box = [5.0, 5.0, 30.0, 30.0]
    return [
        dict(
            id=number, path=str(tmp_path / f'{number}.jpg'), height=40, width=60,
            truth=[dict(bbox=box, label=0, mask=None, ignore=False)],
            found=[dict(bbox=box, label=number % 2, score=0.9, mask=None)],
        )
        for number in range(count)
    ]  # fmt: skip


BASE = dict(
    scope='mmdet',
    meta=dict(classes=('<star>', 'heart & co')),
    metrics={'coco/bbox_mAP': 0.4567, 'time': 3.0},
    config='model = dict(type="<Model>")',
    environment=dict(torch='2.0'),
)
LOGS = [
    *(dict(loss=5 / step, loss_cls=1 / step, lr=1e-3, time=0.1, step=step) for step in range(1, 9)),
    {'coco/bbox_mAP': 0.1, 'step': 1},
    {'coco/bbox_mAP': 0.4, 'step': 2},
]


def test_a_whole_page(tmp_path):
    page = check(
        build_page('demo <1>', records=detections(tmp_path), logs=LOGS, examples=2, **BASE)
    )
    for text in (
        'demo &lt;1&gt;', '0.457', '&lt;star&gt;', 'heart &amp; co', 'Training loss',
        'Learning rate', 'Scores on the validation images', 'type=&quot;&lt;Model&gt;&quot;',
        '4 images evaluated', 'AP by size', 'Precision and recall', 'Worst images',
    ):  # fmt: skip
        assert text in page, text
    worst = page[page.index('id="worst-images"') : page.index('id="best-images"')]
    best = page[page.index('id="best-images"') : page.index('id="environment"')]
    assert worst.count('<img') == best.count('<img') == 4  # truth and prediction of two
    assert '1.jpg, 0.000' in worst and '3.jpg, 0.000' in worst
    assert '2.jpg, 1.000' in best and '0.jpg, 1.000' in best


def test_class_maps_have_a_legend(tmp_path):
    records = []
    for number, found in enumerate((1, 0)):
        path = str(tmp_path / f'{number}.jpg')
        cv2.imwrite(path, np.full((40, 60, 3), 90, np.uint8))
        truth = np.full((40, 60), 1)
        truth[:5] = 255  # of no class
        maps = dict(truth=pack_map(truth), found=pack_map(np.full((40, 60), found)))
        records.append(dict(id=path, path=path, **maps))
    meta = dict(classes=['sky', '<road>', 'tree'], palette=[[1, 2, 3], [40, 50, 60], [7, 8, 9]])
    given = BASE | dict(scope='mmseg', meta=meta, metrics=dict(mIoU=np.float32(24.03)))
    page = check(build_page('t', records=records, logs=[], **given))
    assert '<b>24.03</b><span>mIoU</span>' in page
    worst = page[page.index('id="worst-images"') : page.index('id="best-images"')]
    best = page[page.index('id="best-images"') : page.index('id="environment"')]
    road = '<i style="background:rgb(40, 50, 60)"></i>&lt;road&gt;</span>'
    assert road in worst and road in best
    assert 'sky</span>' in worst and 'sky</span>' not in best  # where it was taken for the road
    assert 'tree</span>' not in page


def test_a_page_without_an_evaluation():
    page = check(build_page('t', records=[], logs=[], **(BASE | dict(metrics={}))))
    assert 'Nothing was evaluated' in page and 'Worst' not in page


def test_an_evaluation_that_found_nothing(tmp_path):
    records = [record | dict(found=[]) for record in detections(tmp_path)]
    page = check(build_page('t', records=records, logs=[], **(BASE | dict(metrics={}))))
    assert 'No object was found' in page and 'Nothing was evaluated' not in page


def test_images_that_are_gone(tmp_path):
    records = detections(tmp_path)
    for record in records:
        record['path'] = str(tmp_path / 'gone.jpg')
    assert 'gone.jpg: not readable' in check(build_page('t', records=records, logs=[], **BASE))


def test_many_classes_are_summed_up(tmp_path):
    records = detections(tmp_path)
    meta = dict(classes=[f'class {i}' for i in range(60)])
    page = check(build_page('t', records=records, logs=[], **(BASE | dict(meta=meta))))
    assert 'Most frequent' in page and 'class 0 as class 1' in page
    assert charts.bars({f'c{i}': i / 100 for i in range(60)}).count('>c') < 30


def test_logs_of_several_runs(tmp_path):
    for run, lines in (
        ('a', ['{"loss": 1, "step": 1}', '{"loss": 1, "st']),
        ('b', ['{"step": 2}']),
    ):
        (tmp_path / run / 'vis_data').mkdir(parents=True)
        (tmp_path / run / 'vis_data/scalars.json').write_text('\n'.join(lines))
    assert read_logs(tmp_path) == [json.loads('{"loss": 1, "step": 1}'), dict(step=2)]
    assert read_logs(tmp_path / 'none') == []


def test_charts_follow_the_ground():
    svg = charts.lines({'a': ([1, 2], [3, 4]), 'b': ([1, 2], [4, 3])}, 'step')
    assert 'currentColor' in svg and charts.INK not in svg
    assert '>step<' in svg and not re.search(r'<svg [^>]*(width|height)=', svg)
    assert 'viewBox' in svg
    numbers = charts.matrix(np.array([[7, 0], [12345, 2 * 10**7]]), ['p', 'q'])
    assert all(f'>{text}<' in numbers for text in ('7', '12k', '20M', 'p'))


def test_equal_charts_share_no_ids():
    svg = charts.lines({'a': ([1, 2], [3, 4])}, 'step')
    page = charts.distinct_ids(f'<p id="mine">{svg}{svg}</p>')
    ids = re.findall(r' id="([^"]*)"', page)
    wanted = re.findall(r'(?:url\(|href=")#([^")]+)', page)
    assert len(ids) == len(set(ids)) > 2 and set(wanted) == set(ids) - {'mine'}


@pytest.mark.parametrize('options', [dict(score_thr=2), dict(examples=0)])
def test_bad_options_of_the_hook(options):
    from mmhybrid.engine import ReportHook

    with pytest.raises(ValueError, match='expected 0 to 1'):
        ReportHook(**options)
