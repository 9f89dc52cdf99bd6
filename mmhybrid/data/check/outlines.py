"""Boxes beside the outlines of the same objects, which should agree."""

from collections.abc import Sequence

import numpy as np

from ..findings import Findings, numbers_of, shown
from .objects import objects_of

ODD = 0.01  # of all boxes: with more that differ from their outline there is a warning
CORNERS = 'they look like corners x1, y1, x2, y2: write x, y, width, height'
OUT = 0.25  # of all boxes: with more that reach out of their image they may be corners


def report_outlines(
    findings: Findings, content: dict, classes: Sequence[str] | None, *, masks: bool | None = None
) -> None:
    """Add what is wrong with boxes and outlines together.

    Args:
        findings: where it is added.
        content: of a COCO file.
        classes: those of the config; all of the file if None.
        masks: True if masks are trained on, False if not, None if that is not known.
    """
    pairs, missing, first, total = [], 0, None, 0
    corners, reach_out = 0, 0
    for row, image, _ in objects_of(content, classes):
        if row.get('ignore'):
            continue
        total += 1
        outline = row.get('segmentation')
        if not outline:
            missing += 1
            first = first or shown(image.get('file_name', f'image {image["id"]}'))
        box, size = (numbers_of(row.get('bbox')),
                     numbers_of([image.get('width'), image.get('height')]))  # fmt: skip
        if box is None or len(box) != 4 or size is None or row.get('iscrowd'):
            continue
        x, y, right, bottom = box  # if they were corners
        corners += x < right <= size[0] + 1 and y < bottom <= size[1] + 1
        reach_out += x + right > size[0] + 1 or y + bottom > size[1] + 1
        bounds = bounds_of(outline, size)
        if bounds is not None:
            pairs.append((*box, *bounds))
    if missing and (masks or (masks is None and missing < total)):
        _report_missing(findings, missing, total, first, masks)
    if pairs:
        _compare(findings, np.array(pairs))
    elif total == corners and reach_out > OUT * total:
        findings.error(f'{reach_out} of {total} boxes reach out of their image; {CORNERS}')


def _report_missing(findings, missing, total, first, masks):
    text = f'{missing} of {total} objects have no outline'
    cure = (
        ': draw them, remove these objects, or take a config that needs boxes only, as '
        'configs/retinanet_cmt_ti_custom.py'
    )
    if masks:
        findings.error(f'{text}, and this config trains on masks{cure}', first)
    else:
        findings.warning(f'{text}, without which no masks are trained on{cure}', first)


def _compare(findings, pairs):
    """Compare boxes (x, y, width, height) with bounds (x0, y0, x1, y1): pairs are (N, 8)."""
    boxes, bounds = pairs[:, :4], pairs[:, 4:]
    sides = bounds[:, 2:] - bounds[:, :2]
    slack = 3 + 0.1 * sides.max(axis=1)

    def differ(given, expected):
        return np.abs(given - expected).max(axis=1) > slack

    odd = differ(boxes, np.hstack([bounds[:, :2], sides]))
    count, total = int(odd.sum()), len(pairs)
    if count <= ODD * total:
        return
    text = f'{count} of {total} boxes are not those of their outlines'
    as_corners = odd & ~differ(boxes, bounds)
    large = odd & (sides > 0).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    if 2 * as_corners.sum() > count:
        findings.error(f'{text}; {CORNERS}')
        return
    if large.any():
        scale = np.median(boxes[large, 2:] / sides[large], axis=0)
        scaled = np.hstack([bounds[:, :2] * scale, sides * scale])
        slack = 3 + 0.1 * boxes[:, 2:].max(axis=1)
        if 2 * (odd & ~differ(boxes, scaled)).sum() > count:
            factor = f'{scale[0]:.3g}' if np.isclose(scale[0], scale[1], rtol=0.02) else (
                f'{scale[0]:.3g} and {scale[1]:.3g}')  # fmt: skip
            findings.error(
                f'{text}; the outlines look like those of another size of the images: the boxes '
                f'are {factor} times as large. Write both in pixels of the images'
            )
            return
    findings.warning(  # boxes of whole objects beside outlines of their visible parts are good data
        f'{text}: look at some of them, as x, y, width, height, unless they are meant to differ'
    )


def bounds_of(outline: object, size: Sequence[float]) -> tuple[float, float, float, float] | None:
    """``x0, y0, x1, y1`` of polygons or a run-length code in an image; None if it is neither."""
    if isinstance(outline, list):
        parts = [numbers_of(polygon) for polygon in outline]
        parts = [part for part in parts if part is not None and len(part) >= 6]
        if not parts:
            return None
        left, right = min(min(p[::2]) for p in parts), max(max(p[::2]) for p in parts)
        top, bottom = min(min(p[1::2]) for p in parts), max(max(p[1::2]) for p in parts)
        return left, top, right, bottom
    if not isinstance(outline, dict) or outline.get('size') != [size[1], size[0]]:
        return None
    runs, height = runs_of(outline.get('counts')), int(size[1])
    if not runs or min(runs) < 0 or sum(runs) != size[0] * size[1]:
        return None
    ends = np.cumsum(np.array(runs, np.float64))
    begins, ends = ends[: len(runs) // 2 * 2 : 2], ends[1::2]  # of what is inside, column by column
    begins, ends = begins[ends > begins], ends[ends > begins] - 1
    if not len(begins):
        return None
    first, last = begins // height, ends // height
    whole = first != last
    top = np.where(whole, 0, begins % height)
    bottom = np.where(whole, height - 1, ends % height)
    return float(first[0]), float(top.min()), float(last[-1] + 1), float(bottom.max() + 1)


def runs_of(counts: object) -> list[float] | None:
    """Run lengths as numbers, given so or in COCO's letters; None if they are neither."""
    if not isinstance(counts, str):
        return numbers_of(counts)
    runs: list[float] = []
    run = shift = 0
    for letter in counts:  # six bits each: one that says whether the number goes on, five of it
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            return None
        run |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            run -= (1 << shift) if bits & 16 else 0
            runs.append(run + (runs[-2] if len(runs) > 2 else 0))
            run = shift = 0
    return runs if shift == 0 else None
