"""The objects of a COCO file that reach a model, counted as MMDetection leaves them out."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..findings import Findings, is_whole, numbers_of, shown

CROWD = 'marked "iscrowd": 1'
DIFFICULT = 'marked "difficult"'
SMALL = 'smaller than "bbox_min_size" of the config\'s filter_cfg'
# Shares of all objects that are ordinary: COCO has a hundredth of crowds, VOC 2007 a fifth that is
# difficult, and as many small ones.
ORDINARY = {CROWD: 0.2, DIFFICULT: 0.4, SMALL: 0.4}
HINTS = {
    CROWD: '; write "iscrowd": 0 for a single object, as CVAT does not for brush masks',
    'marked "ignore"': '; remove the key from objects to be learned',
}


@dataclass
class Objects:
    """Objects of a COCO file by class, and those that are left out by reason.

    Attributes:
        total: all of the classes.
        counts, in_images: those that are used by class, and in how many images.
        left_out: how many by reason.
        examples: the first of a reason.
    """

    total: int = 0
    counts: Counter = field(default_factory=Counter)
    in_images: Counter = field(default_factory=Counter)
    left_out: Counter = field(default_factory=Counter)
    examples: dict = field(default_factory=dict)

    def reasons(self) -> str:
        """The reasons, each with how many."""
        return ', '.join(f'{count} {reason}' for reason, count in self.left_out.most_common())


def objects_of(content: dict, classes: Sequence[str] | None) -> Iterator[tuple[dict, dict, str]]:
    """``(annotation, image, class name)`` of a COCO file; wrong entries are passed over."""
    names: dict[Any, str] = {}
    for row in _rows(content, 'categories', 'id'):
        name = row.get('name')
        if classes is None or name in classes:
            names.setdefault(row['id'], str(name))
    images: dict = {}
    for row in _rows(content, 'images', 'id'):
        images.setdefault(row['id'], row)
    for row in _rows(content, 'annotations', 'image_id'):
        image, name = images.get(row['image_id']), row.get('category_id')
        if image is not None and (isinstance(name, (int, str)) or is_whole(name)) and name in names:
            yield row, image, names[name]


def _rows(content, table, key):
    rows = content.get(table)
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and (
            isinstance(row.get(key), (int, str)) or is_whole(row.get(key))
        ):
            yield row


def count_objects(
    content: dict,
    classes: Sequence[str] | None = None,
    *,
    masks: bool = False,
    evaluated: bool = False,
    min_size: int = 0,
) -> Objects:
    """Count the objects that are trained on, or evaluated.

    Args:
        content: of a COCO file.
        classes: those of the config; all of the file if None.
        masks: True if masks are trained on.
        evaluated: True if AP is computed on it, which leaves out crowds alone.
        min_size: of the shorter side of an image that is trained on (``filter_cfg``).
    """
    found = Objects()
    images = defaultdict(set)
    for row, image, name in objects_of(content, classes):
        found.total += 1
        if evaluated:
            reason = CROWD if row.get('iscrowd') else None
        else:
            reason = _why_left_out(row, image, masks, min_size)
        if reason is None:
            found.counts[name] += 1
            images[name].add(image['id'])
        else:
            found.left_out[reason] += 1
            where = shown(image.get('file_name', f'image {image["id"]}'))
            found.examples.setdefault(reason, f'{row.get("bbox")} in {where}')
    found.in_images.update({name: len(ids) for name, ids in images.items()})
    return found


def _why_left_out(row, image, masks, min_size):
    """The first reason for which ``CocoDataset`` or ``LoadAnnotations`` leaves an object out."""
    if row.get('ignore'):
        return 'marked "ignore"'
    box, size = numbers_of(row.get('bbox')), numbers_of([image.get('width'), image.get('height')])
    if box is None or len(box) != 4 or size is None:
        return 'without a box or the size of their image'
    (x, y, width, height), area = box, numbers_of([row.get('area')])
    across = min(x + width, size[0]) - max(x, 0)
    along = min(y + height, size[1]) - max(y, 0)
    if width < 1 or height < 1:
        return 'less than a pixel wide or high'
    if across <= 0 or along <= 0:
        return 'outside their image'
    if area is None or area[0] <= 0:
        return 'with "area" 0'
    if row.get('iscrowd'):
        return CROWD
    if min(size) < min_size:
        return f'in images with a side below {min_size} pixels'
    outline = row.get('segmentation')
    if masks and isinstance(outline, list) and outline:
        sizes = [len(polygon) for polygon in outline if isinstance(polygon, list)]
        if not any(size >= 6 and size % 2 == 0 for size in sizes):
            return 'with an outline of fewer than three points'
    return None


def report_objects(findings: Findings, found: Objects, *, evaluated: bool = False) -> None:
    """Add to the findings if no object is used, or more are left out than a few crowds."""
    verb = 'evaluated' if evaluated else 'trained on'
    left_out = sum(found.left_out.values())
    if not left_out:
        return
    if left_out == found.total:
        hint = HINTS.get(found.left_out.most_common(1)[0][0], '')
        findings.error(f'none of {found.total} boxes is {verb}: {found.reasons()}{hint}')
    elif any(
        count > ORDINARY.get(reason, 0) * found.total for reason, count in found.left_out.items()
    ):
        odd = [reason for reason in found.examples if reason not in ORDINARY]
        first = found.examples[(odd or list(found.examples))[0]]
        findings.warning(
            f'{left_out} of {found.total} boxes are not {verb}: {found.reasons()}', first
        )


def report_scale(findings: Findings, content: dict, classes: Sequence[str] | None) -> None:
    """Add an error if boxes are shares of the sides of their image, not pixels."""
    shares = total = 0
    for row, _, _ in objects_of(content, classes):
        box = numbers_of(row.get('bbox'))
        if box is not None and len(box) == 4:
            total += 1
            shares += min(box) >= 0 and max(box) <= 1 and min(box[2:]) > 0
    if 2 * shares > total:
        findings.error(
            f'{shares} of {total} boxes lie between 0 and 1, as shares of the sides of their '
            'image: write pixels'
        )
