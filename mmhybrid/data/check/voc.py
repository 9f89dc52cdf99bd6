"""Checks of boxes in Pascal VOC's format."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ..depth import headers_of, report_depth
from ..findings import Findings, Reading, Split, inside, note_image, shown, try_to_read
from .coco import check_box
from .lists import read_list
from .objects import DIFFICULT, SMALL, Objects, report_objects


def check_voc(
    name: str,
    root: Path,
    list_file: Path,
    classes: Sequence[str],
    reading: Reading | None = None,
    *,
    evaluated: bool = False,
    min_box: int = 0,
) -> Split:
    """Boxes as XML: ``Annotations/*.xml`` and ``JPEGImages/*.jpg`` of the names in a list.

    ``min_box`` is the least side of a box that is trained on (``bbox_min_size`` of ``filter_cfg``).
    """
    split = Split(name, f'{list_file}, images in {root / "JPEGImages"}', 'boxes')
    split.counts.update(dict.fromkeys(classes, 0))
    expected: dict[Path, tuple[int, ...] | None] = {}
    for stem in read_list(list_file, split.findings):
        split.images += 1
        split.names.add(stem)
        path = inside(root / 'JPEGImages', f'{stem}.jpg')
        if path is None:
            split.findings.error('file names that lead out of the folder', stem)
            continue
        expected[path] = None
        try:
            tree = ElementTree.parse(root / 'Annotations' / f'{stem}.xml').getroot()
            expected[path] = size = tuple(
                int(tree.findtext(f'size/{side}') or '') for side in ('width', 'height')
            )
            boxes = [
                (
                    one.findtext('name'),
                    [float(one.findtext(f'bndbox/{key}') or '') for key in
                     ('xmin', 'ymin', 'xmax', 'ymax')],
                )
                for one in tree.findall('object')
            ]  # fmt: skip
        except FileNotFoundError:
            split.findings.error('images without an XML file', stem)
            continue
        except (OSError, ElementTree.ParseError, TypeError, ValueError) as error:
            split.findings.error('XML files that cannot be read', f'{stem}.xml ({error})')
            continue
        for label, (x0, y0, x1, y1) in boxes:
            if label not in split.counts:
                split.findings.warning('boxes of unknown classes, which are not used', label)
                continue
            check_box(split.findings, [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1], size, stem)
        if not boxes:
            split.findings.warning('images without boxes', stem)
    objects = count_voc(root, list_file, classes, evaluated=evaluated, min_box=min_box)
    split.counts.update(objects.counts)
    split.in_images, split.left_out = objects.in_images, sum(objects.left_out.values())
    report_objects(split.findings, objects, evaluated=evaluated)
    report_depth(split.findings, headers_of(list(expected)))
    for path, found in (reading or Reading()).each(split, list(expected), try_to_read):
        note_image(split, path, found, expected[path])
    return split


def count_voc(
    root: Path,
    list_file: Path,
    classes: Sequence[str],
    *,
    evaluated: bool = False,
    min_box: int = 0,
) -> Objects:
    """Count the objects that MMDetection's ``XMLDataset`` trains on, or that are evaluated.

    Files that cannot be read are passed over; the arguments are those of ``check_voc``.
    """
    found = Objects()
    for stem in read_list(list_file, Findings()):
        path = inside(root / 'Annotations', f'{stem}.xml')
        try:
            objects = ElementTree.parse(path).getroot().findall('object') if path else []
        except (OSError, ValueError, ElementTree.ParseError):  # a name may hold a null
            continue
        here = set()
        for one in objects:
            label = one.findtext('name')
            if label not in classes:
                continue
            found.total += 1
            reason = _why_left_out(one, 0 if evaluated else min_box)
            if reason is None:
                found.counts[label] += 1
                here.add(label)
            else:
                found.left_out[reason] += 1
                found.examples.setdefault(reason, f'{shown(label)} in {shown(stem)}')
        found.in_images.update(here)
    return found


def _why_left_out(one, min_box):
    if one.findtext('difficult', '0').strip() not in ('0', ''):
        return DIFFICULT
    try:
        x0, y0, x1, y1 = (
            int(float(one.findtext(f'bndbox/{key}'))) for key in ('xmin', 'ymin', 'xmax', 'ymax')
        )
    except (TypeError, ValueError, OverflowError):
        return 'without four numbers as their box'
    return SMALL if min(x1 - x0, y1 - y0) < min_box else None
