"""The page: one HTML file that needs nothing beside it."""

import base64
import html
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np

from mmhybrid.data.palette import palette
from mmhybrid.inspect.report import charts
from mmhybrid.inspect.report.draw import (
    draw_class_map,
    draw_instances,
    enlarged,
    put_list,
    read_image,
)
from mmhybrid.inspect.report.measures import Measures, measure
from mmhybrid.inspect.report.records import IGNORED, decode_mask, unpack_map

MOST_CLASSES = 25  # of a confusion matrix; of more the most frequent confusions are listed
MOST_ROWS = 400  # of a table
LONG = 200  # letters of a value that is not shown at once
SCORES = ('coco/', 'mIoU', 'mAcc', 'aAcc', 'accuracy/', 'pascal_voc/', 'mDice', 'single-label/')
SKIPPED = ('time', 'data_time', 'epoch', 'iter', 'step', 'memory')


def build_page(
    title: str,
    *,
    scope: str,
    records: list[dict],
    meta: Mapping,
    metrics: Mapping[str, float],
    logs: list[dict],
    config: str,
    environment: Mapping[str, object],
    score_thr: float = 0.3,
    examples: int = 6,
) -> str:
    """The HTML of a report.

    Args:
        scope: the host library.
        records: of the evaluated images, from :class:`~.records.Recorder`; may be empty.
        meta: ``classes`` and ``palette`` of the data set.
        metrics: what the host's evaluator said.
        logs: lines of mmengine's ``scalars.json`` files, in order.
        config: its text.
        environment: name -> value.
        score_thr: least score of objects that are drawn and counted as confusions.
        examples: how many of the worst, and how many of the best images are shown.
    """
    why = 'No object was found.' if records else 'Nothing was evaluated.'
    sections = [('Scores', _numbers(metrics) or f'<p class="note">{why}</p>')]
    curves = _curves(logs)
    if curves:
        sections.append(('Curves', grid(curves)))
    if records:
        classes = list(meta['classes'])
        measures = measure(scope, records, classes, score_thr)
        by_class = [(name, charts.bars(values)) for name, values in measures.bars.items() if values]
        tables = [table(name, *cells) for name, cells in measures.tables.items()]
        sections.append(('Classes and sizes', grid(by_class) + ''.join(tables)))
        if measures.curves:
            drawn = [
                (name, charts.lines(series, 'recall', 'precision', xlim=(0, 1), ylim=(0, 1.02)))
                for name, series in measures.curves.items()
            ]
            sections.append(('Precision and recall', grid(drawn)))
        sections.append(('Confusions', _confusions(measures, score_thr, scope)))
        sections += _examples(scope, records, meta, measures, score_thr, examples)
    sections.append(('Environment', _pairs(environment)))
    sections.append(
        ('Configuration', f'<details><summary>Show</summary><pre>{_text(config)}</pre></details>')
    )
    images = f'{len(records)} images evaluated' if records else 'no images evaluated'
    return page(title, images, sections)


def read_logs(folder: str | Path) -> list[dict]:
    """The lines of all ``scalars.json`` below a work dir, oldest run first."""
    lines = []
    for path in sorted(Path(folder).glob('**/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:  # the last line of a killed run
                continue
    return lines


# Sections


def _numbers(metrics: Mapping[str, float]) -> str:
    cards = [
        f'<div class="card"><b>{_score(name, value)}</b><span>{_text(name)}</span></div>'
        for name, value in metrics.items()
        if isinstance(value, (int, float, np.number)) and name not in SKIPPED
    ]
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ''


def _by_step(logs: Iterable[dict]) -> list[dict]:
    """Sort logs by step; a resumed run replaces its steps."""
    found = {log['step']: log for log in logs}
    return [found[step] for step in sorted(found)]


def _curves(logs: list[dict]) -> list[tuple[str, str]]:
    train = _by_step(log for log in logs if 'loss' in log)
    scored = _by_step(
        log for log in logs if 'loss' not in log and any(key.startswith(SCORES) for key in log)
    )

    def series(source, wanted):
        found: dict[str, tuple[list, list]] = {}
        for log in source:
            for name in filter(wanted, log):
                steps, values = found.setdefault(name, ([], []))
                steps.append(log['step'])
                values.append(log[name])
        return found

    shown = []
    for title, source, wanted, label in (
        ('Training loss', train, 'loss'.__eq__, 'step'),
        ('Parts of the loss', train, lambda key: 'loss' in key and key != 'loss', 'step'),
        ('Learning rate', train, lambda key: key == 'lr', 'step'),
        ('Norm of the gradient', train, lambda key: key == 'grad_norm', 'step'),
        ('Seconds a step', train, lambda key: key == 'time', 'step'),
        ('Scores on the validation images', scored, _is_main_score, 'epoch or step'),
    ):
        found = series(source, wanted)
        if any(len(x) > 1 for x, _ in found.values()) or (found and source is scored):
            shown.append((title, charts.lines(found, label)))
    return shown


def _is_main_score(key: str) -> bool:
    tails = ('mAP', 'mAP_50', 'mIoU', 'mAcc', 'aAcc', 'top1', 'top5', 'AP50')
    return key.startswith(SCORES) and key.endswith(tails)


def _confusions(measures: Measures, score_thr: float, scope: str) -> str:
    notes = {
        'mmdet': f'Objects that score {score_thr:g} or more, paired at IoU 0.5 of their boxes. The '
        'last row holds what was found where nothing is, the last column what was missed.',
        'mmseg': 'Pixels. Shades are shares of a row.',
        'mmpretrain': 'Images. Shades are shares of a row.',
    }
    note = f'<p class="note">{notes[scope]}</p>'
    if len(measures.labels) <= MOST_CLASSES:
        return note + grid([('', charts.matrix(measures.confusion, measures.labels))])
    wrong = measures.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None)[:30]
    rows = []
    for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[i, j]:
            share = wrong[i, j] / measures.confusion[i].sum()
            rows.append([f'{measures.labels[i]} as {measures.labels[j]}', int(wrong[i, j]), share])
    return note + table('Most frequent', ['true as predicted', 'count', 'share of true'], rows)


def _examples(scope, records, meta, measures, score_thr, count) -> list[tuple[str, str]]:
    order = np.argsort(measures.scores, kind='stable')
    count = min(count, len(order) // 2) or len(order[:1])
    picked = [('Worst images', order[:count]), ('Best images', order[::-1][:count])]
    colors = meta.get('palette')
    if not isinstance(colors, (list, tuple)) or len(colors) != len(measures.classes):
        colors = np.array(palette(len(measures.classes)), np.uint8)
    draw = dict(mmdet=_draw_detection, mmseg=_draw_segmentation, mmpretrain=_draw_class)[scope]
    sections = []
    for title, indices in picked:
        figures = []
        for index in indices:
            record = records[index]
            image = read_image(record['path'])
            name = _text(Path(str(record['path'])).name)
            if image is None:
                figures.append(f'<figure><figcaption>{name}: not readable</figcaption></figure>')
                continue
            pair = draw(image, record, measures, np.array(colors), score_thr)
            shown = ''.join(
                f'<div><small>{what}</small>{_picture(drawn, f"{name}, {what}")}</div>'
                for what, drawn in zip(('truth', 'prediction'), pair, strict=True)
            )
            score = measures.scores[index]
            figures.append(
                f'<figure><div class="pair">{shown}</div><figcaption>{name}, {score:.3f}'
                '</figcaption></figure>'
            )
        note = f'<p class="note">By {measures.score_name}.</p>'
        if scope == 'mmseg':  # drawn objects have their names
            note += _legend([records[index] for index in indices], measures.classes, colors)
        sections.append((title, f'{note}<div class="examples">{"".join(figures)}</div>'))
    return sections


def _draw_detection(image, record, measures, colors, score_thr):
    found = [one for one in record['found'] if one['score'] >= score_thr]
    pair = []
    for objects in (record['truth'], found):
        objects = [{**one, 'mask': decode_mask(one['mask'])} for one in objects]
        pair.append(draw_instances(image, objects, measures.classes, colors, least=300))
    return pair


def _draw_segmentation(image, record, measures, colors, score_thr):
    pair = []
    for key in ('truth', 'found'):
        class_map = unpack_map(record[key])
        class_map[class_map >= len(measures.classes)] = IGNORED
        pair.append(enlarged(draw_class_map(image, class_map, colors), 300)[0])
    return pair


def _legend(records, classes, colors):
    """Colours and names of the classes that class maps hold."""
    held = {label for one in records for key in ('truth', 'found')
            for label in np.unique(unpack_map(one[key])).tolist()}  # fmt: skip
    return '<p class="legend">' + ''.join(
        f'<span><i style="background:rgb{tuple(map(int, colors[label]))}"></i>'
        f'{_text(classes[label])}</span>'
        for label in sorted(held)
        if label < len(classes)
    ) + '</p>'  # fmt: skip


def _draw_class(image, record, measures, colors, score_thr):
    pair = [enlarged(image, 200)[0], enlarged(image, 200)[0]]
    named = [
        [(record['truth'], record['chance'])],
        list(zip(record['found'], record['best'], strict=True))[:3],
    ]
    for drawn, listed in zip(pair, named, strict=True):
        lines = [
            (f'{measures.classes[label]} {score:.2f}', colors[label].tolist())
            for label, score in listed
        ]
        put_list(drawn, lines)
    return pair


# Pieces


def page(title: str, about: str, sections: Iterable[tuple[str, str]]) -> str:
    """A page of sections, each a name and its HTML, with a line about it and links in front."""
    sections = list(sections)
    body = ''.join(
        f'<section id="{_anchor(name)}"><h2>{_text(name)}</h2>{content}</section>'
        for name, content in sections
    )
    links = ''.join(f'<a href="#{_anchor(name)}">{_text(name)}</a>' for name, _ in sections)
    body = charts.distinct_ids(body)
    return PAGE.format(title=_text(title), style=STYLE, links=links, about=_text(about), body=body)


def _picture(image: np.ndarray, name: str, widest: int = 640) -> str:
    if image.shape[1] > widest:
        size = (widest, round(image.shape[0] * widest / image.shape[1]))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    data = base64.b64encode(jpeg.tobytes()).decode()
    return f'<img alt="{name}" loading="lazy" src="data:image/jpeg;base64,{data}">'


def grid(charts_: Iterable[tuple[str, str]]) -> str:
    """Charts side by side, each under its name."""
    figures = ''.join(
        f'<figure>{f"<figcaption>{_text(name)}</figcaption>" if name else ""}{svg}</figure>'
        for name, svg in charts_
    )
    return f'<div class="charts">{figures}</div>'


def table(name: str, header: list[str], rows: list[list], with_total: bool = True) -> str:
    """A table under its name, of numbers and text; ``with_total``: its last row sums up others."""
    head = ''.join(f'<th>{_text(cell)}</th>' for cell in header)
    body = ''
    for row in rows[:MOST_ROWS]:
        cells = ''.join(f'<td>{_number(cell)}</td>' for cell in row[1:])
        body += f'<tr><th>{_text(row[0])}</th>{cells}</tr>'
    return (
        (f'<h3>{_text(name)}</h3>' if name else '')
        + f'<div class="wide"><table{" class=total" if with_total else ""}>'
        f'<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _pairs(values: Mapping[str, object]) -> str:
    rows = ''.join(
        f'<tr><th>{_text(key)}</th><td>{_folded(str(value))}</td></tr>'
        for key, value in values.items()
    )
    return f'<div class="wide"><table class="pairs"><tbody>{rows}</tbody></table></div>'


def _folded(text: str) -> str:
    """A text, folded up where it is long."""
    if len(text) <= LONG:
        return _text(text)
    return f'<details><summary>Show</summary>{_text(text)}</details>'


def _number(value) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, (int, np.integer)):
        return f'{value:,}'
    value = float(value)
    if math.isnan(value):
        return '<span class="none">none</span>'
    return f'{value:.3f}' if abs(value) < 10 else f'{value:.2f}'


def _score(name: str, value: float) -> str:
    """COCO's scores are -1 where there is no object to score, such as none of a size."""
    return _number(float('nan') if value == -1 and name.startswith('coco/') else value)


def _text(value: object) -> str:
    return html.escape(str(value))


def _anchor(name: str) -> str:
    return name.lower().replace(' ', '-')


STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1c1f23; --pale: #5d6670; --line: #d9dde2;
  --card: #f4f6f8; --link: #1f66b8 }
@media (prefers-color-scheme: dark) { :root { --ground: #15181c; --ink: #e4e7ea; --pale: #9aa4ae;
  --line: #343a41; --card: #1e2329; --link: #7db4f0 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1180px; padding: 0 16px 64px; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif }
h1 { font-size: 1.6em; margin: 24px 0 0; overflow-wrap: anywhere }
h2 { font-size: 1.25em; margin: 36px 0 10px; padding-top: 8px; border-top: 1px solid var(--line) }
h3 { font-size: 1em; margin: 20px 0 6px }
nav { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 12px 0 }
a { color: var(--link); text-decoration: none }
.note, header p, figcaption, small { color: var(--pale) }
figure { margin: 0; min-width: 0 }
figcaption { font-size: 0.93em; margin: 2px 0 4px; overflow-wrap: anywhere }
.cards { display: flex; flex-wrap: wrap; gap: 10px }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 8px 14px; min-width: 120px }
.card b { display: block; font-size: 1.35em } .card span { color: var(--pale); font-size: 0.85em }
.charts, .examples { display: grid; gap: 22px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)) }
.charts svg { width: 100%; height: auto; max-height: 900px; color: var(--ink) }
.charts svg text { font-family: inherit !important; fill: currentColor }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 6px }
.pair img { width: 100%; display: block; border-radius: 4px }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px }
.legend i { display: inline-block; width: 0.9em; height: 0.9em; margin-right: 5px;
  vertical-align: -0.1em }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 0.9em; font-variant-numeric: tabular-nums }
th, td { padding: 4px 10px; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap }
tbody th, thead th:first-child { text-align: left; font-weight: 500 }
table.total tbody tr:last-child:not(:first-child) { border-top: 2px solid var(--line) }
.pairs th, .pairs td { white-space: normal; overflow-wrap: break-word; vertical-align: top }
.pairs td { text-align: left; overflow-wrap: anywhere; min-width: 180px }
.none { color: var(--pale) }
pre { overflow-x: auto; background: var(--card); padding: 12px; border-radius: 8px;
  font-size: 0.85em }
summary { cursor: pointer; color: var(--link) }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>{about}</p><nav>{links}</nav></header>
<main>{body}</main>
</body>
</html>
"""
