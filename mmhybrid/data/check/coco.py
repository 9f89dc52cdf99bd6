"""Checks of boxes and masks in COCO format."""

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..coco import DataError, check_are_text, check_class_names, read_json_text
from ..depth import headers_of, report_depth
from ..findings import (
    Findings,
    Reading,
    Split,
    inside,
    is_whole,
    note_image,
    numbers_of,
    shown,
    try_to_read,
)
from .objects import count_objects, report_objects, report_scale
from .outlines import report_outlines, runs_of


def check_coco(
    name: str,
    annotations: Path,
    root: Path,
    classes: Sequence[str] | None = None,
    masks: bool | None = None,
    reading: Reading | None = None,
    *,
    evaluated: bool = False,
    lvis: bool = False,
    min_size: int = 0,
) -> Split:
    """A COCO-format file and the images it names.

    Args:
        name: of the split.
        annotations: the JSON file.
        root: the folder below which its images lie.
        classes: class names of the config; those of the file if None.
        masks: True if every box needs a mask, None if that is not known.
        reading: how images are read.
        evaluated: True if AP is computed on it, which takes more than a training does.
        lvis: as LVIS has it: images by their ``coco_url``, nothing that says what is a crowd.
        min_size: of the shorter side of an image that is trained on (``filter_cfg``).
    """
    split = Split(name, f'{annotations}, images in {root}', 'boxes')
    content = _read_json(annotations, split.findings)
    if content is None:
        return split
    tables = {}
    for key, needed in (
        ('categories', ('id', 'name')), ('images', ('id',)), ('annotations', ('image_id',)),
    ):  # fmt: skip
        rows = content.get(key)
        if not isinstance(rows, list):
            split.findings.error(f'no list "{key}" in {annotations}')
            rows = []
        good = [row for row in rows if isinstance(row, dict) and set(needed) <= set(row)]
        for row in [row for row in rows if not (isinstance(row, dict) and set(needed) <= set(row))]:
            split.findings.error(f'entries of "{key}" without {" and ".join(needed)}', row)
        tables[key] = good
    if tables['categories']:
        try:
            check_are_text([row['name'] for row in tables['categories']], annotations)
            if classes is not None:
                check_class_names(classes, annotations)
        except DataError as error:
            split.findings.error(str(error).replace('\n', '\n    '))
    names = _by_id(tables['categories'], 'categories', split.findings)
    names = {id_: str(row['name']) for id_, row in names.items()}
    for twice, count in Counter(names.values()).items():
        if count > 1:
            split.findings.error('category names given twice', twice)
    images = _by_id(tables['images'], 'images', split.findings)
    split.images = len(images)
    paths = _coco_paths(split, images, root, lvis)
    boxes: dict = {id_: [] for id_ in images}
    _by_id([row for row in tables['annotations'] if 'id' in row], 'annotations', split.findings)
    for row in tables['annotations']:
        _check_entry(split.findings, row, evaluated, lvis)
        if _key(row['image_id']) not in images:
            split.findings.error('boxes of images that are not listed', f'image {row["image_id"]}')
        elif _key(row.get('category_id')) not in names:
            split.findings.error(
                'boxes of unknown categories', f'category_id {row.get("category_id")}'
            )
        else:
            boxes[_key(row['image_id'])].append(row)
    wanted = set(names.values()) if classes is None else set(map(str, classes))
    split.counts.update(dict.fromkeys(sorted(wanted), 0))
    for id_, image in images.items():
        where = shown(image.get('file_name', f'image {id_}'))
        size = _size(image)
        rows = [row for row in boxes[id_] if names[_key(row['category_id'])] in wanted]
        if not rows:
            split.findings.warning('images without boxes', where)
        for row in rows:
            check_box(split.findings, row.get('bbox'), size, where, empty=evaluated)
            _check_outline(split.findings, row.get('segmentation'), size, where)
    found = count_objects(
        tables, classes, masks=bool(masks), evaluated=evaluated, min_size=min_size
    )
    split.counts.update(found.counts)
    for root_name in roots_of(tables['categories']):
        if not split.counts[root_name]:
            del split.counts[root_name]
    split.in_images, split.left_out = found.in_images, sum(found.left_out.values())
    report_objects(split.findings, found, evaluated=evaluated)
    report_scale(split.findings, tables, classes)
    report_outlines(split.findings, tables, classes, masks=masks)
    report_depth(split.findings, headers_of(list(paths.values())))
    expected = {path: _size(images[id_]) for id_, path in paths.items()}
    reading = reading or Reading()
    for path, found in reading.each(split, list(expected), try_to_read):
        note_image(split, path, found, expected[path])
    return split


def roots_of(categories: Sequence[dict]) -> list[str]:
    """Names of categories over the others, without boxes of their own, as Roboflow writes one."""
    above = {str(row.get('supercategory')) for row in categories}
    return [
        str(row['name']) for row in categories
        if row.get('supercategory') == 'none' and str(row['name']) in above
    ]  # fmt: skip


def _read_json(path, findings):
    try:
        content = json.loads(read_json_text(path))
    except DataError as error:
        findings.error(str(error))
    except (ValueError, RecursionError) as error:
        findings.error(f'{path} is no complete JSON file: {shown(error)}')
    else:
        if isinstance(content, dict):
            return content
        findings.error(f'{path} holds a {type(content).__name__}: expected a JSON object')
    return None


def _key(value):
    """An id that can be looked up; lists and the like cannot."""
    return value if isinstance(value, (int, str)) or is_whole(value) else None


def _by_id(rows, what, findings):
    found = {}
    for row in rows:
        key = _key(row['id'])
        if key is None:
            findings.error(f'ids of {what} that are no numbers', row['id'])
        elif key in found:
            findings.error(f'ids of {what} used twice', key)
        else:
            found[key] = row
    return found


def _coco_paths(split, images, root, lvis):
    """The files of images that lie in the folder."""
    paths = {}
    for id_, image in images.items():
        name = image.get('file_name')
        if name is None and lvis and isinstance(image.get('coco_url'), str):
            name = re.sub(r'^https?://[^/]*/', '', image['coco_url'])
        if name is None:
            split.findings.error('images without "file_name"', f'image {id_}')
            continue
        path = inside(root, name)
        if path is None:
            split.findings.error('file names that lead out of the folder', name)
            continue
        if _size(image) is None:
            split.findings.error('images without width and height in the file', name)
        paths[id_] = path
        split.names.add(os.path.splitext(name)[0])
    for path, count in Counter(paths.values()).items():
        if count > 1:
            split.findings.error('image files listed twice', path)
    return paths


def _size(image):
    size = (image.get('width'), image.get('height'))
    return size if all(isinstance(side, int) and side > 0 for side in size) else None


def _check_entry(findings, row, evaluated, lvis):
    """Check what MMDetection and pycocotools read of an annotation beside box and mask."""
    where = f'image {shown(row["image_id"])}'
    if 'id' not in row:
        findings.error('annotations without "id": number them from 1', where)
    elif evaluated and isinstance(row['id'], str):
        findings.error(
            'annotations whose "id" is no number, which AP counts with: number them from 1', where
        )
    elif row['id'] == 0 and evaluated:
        findings.error(
            'annotations with "id" 0, which AP takes for not found: number them from 1', where
        )
    elif row['id'] == 0:
        findings.warning(
            'annotations with "id" 0, which lowers AP where it is computed: number them from 1',
            where,
        )
    area = numbers_of([row.get('area')])
    if area is None:
        findings.error(
            'annotations without a number as "area": write the pixels of the mask, or width x '
            'height of the box',
            where,
        )
    if row.get('iscrowd', None if evaluated and not lvis else 0) not in (0, 1):
        findings.error(
            'annotations without 0 or 1 as "iscrowd": write 1 for a crowd in one outline, else 0',
            where,
        )


def check_box(findings: Findings, box: Any, size: Any, where: str, *, empty: bool = True) -> None:
    """Check a box (x, y, width, height) in an image of a size; ``empty``: report those too."""
    numbers = numbers_of(box)
    if numbers is None or len(numbers) != 4:
        findings.error('boxes that are not four numbers', f'{box} in {where}')
        return
    x, y, width, height = numbers
    text = f'{box} in {where}'
    if width < 1 or height < 1:
        if empty:
            findings.warning('boxes of no area', text)
    elif size is not None:
        if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
            findings.error('boxes outside their image', text)
        elif min(x, y) < -1 or x + width > size[0] + 1 or y + height > size[1] + 1:
            findings.warning('boxes that reach out of their image', text)


def _check_outline(findings, outline, size, where):
    if not outline:
        return  # those are counted
    if isinstance(outline, list):
        for polygon in outline:
            numbers = numbers_of(polygon)
            if numbers is None or len(numbers) < 6 or len(numbers) % 2:
                findings.error('outlines that are not three points or more', where)
    elif isinstance(outline, dict):
        if size is not None and outline.get('size') != [size[1], size[0]]:
            findings.error('masks of another size than their image', where)
        else:
            runs = runs_of(outline.get('counts'))
            total = None if size is None else size[0] * size[1]
            if runs is None or min(runs, default=0) < 0 or total not in (None, sum(runs)):
                findings.error('run lengths that do not fill the image', where)
    else:
        findings.error('masks that are neither outlines nor run lengths', where)
