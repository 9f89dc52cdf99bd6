"""labelme: a JSON file for each image, with polygons, rectangles, circles or painted masks."""

import base64
import binascii
import io
import json
import math
from pathlib import Path

import numpy as np

from ..coco import DataError, read_text
from .records import (
    Contents,
    ImageIndex,
    Picture,
    has_size,
    make_instance,
    new_name,
    read_ends,
    read_sizes,
    split_of,
    walk,
)

CORNERS = 36  # of the polygon that stands for a circle
NO_CLASS = ('__ignore__', '_background_')  # in labelme's own lists of labels


def is_labelme(path: Path) -> bool:
    """Return True if a JSON file begins as labelme's do."""
    ends = read_ends(path)
    return b'"shapes"' in ends and (b'"shape_type"' in ends or b'"imagePath"' in ends)


def read(root: Path, classes: list[str] | None = None) -> Contents:
    """The contents of a folder of labelme's files.

    Shapes of one label and one ``group_id`` are parts of one object. A rectangle is a box without
    an outline; points and lines are left out, and counted.
    """
    contents = Contents()
    findings = contents.findings
    index = ImageIndex(root)
    documents = {}
    for path in walk(root, ['.json']):
        if not is_labelme(path):
            continue
        relative = path.relative_to(root)
        try:
            content = json.loads(read_text(path).lstrip('\ufeff'))
        except (DataError, ValueError, RecursionError) as error:
            findings.warning('JSON files that cannot be read', f'{relative} ({error})')
            continue
        if not isinstance(content, dict) or not isinstance(content.get('shapes'), list):
            findings.warning('JSON files of another kind', relative)
            continue
        name = content.get('imagePath')
        image = index.find(name if isinstance(name, str) else None, path.stem, [path.parent])
        if image is None:
            findings.warning(
                'files without their image beside them (one inside the file can be written by '
                "labelme's labelme_export_json)" if content.get('imageData') else
                'files without their image', relative,
            )  # fmt: skip
        elif image in documents:
            findings.warning('images of two files, the second left out', relative)
        else:
            documents[image] = (relative, content)
    for path in index.others(documents):
        findings.warning('images without a JSON file, left out', path)
    sizes = read_sizes(list(documents), findings)
    labels = set()
    for image, (relative, content) in documents.items():
        if image not in sizes:
            continue
        size = sizes[image]
        stated = (content.get('imageWidth'), content.get('imageHeight'))
        if not has_size(findings, image.relative_to(root), size, stated):
            continue
        picture = Picture(image, new_name(image.relative_to(root)), size)
        contents.splits.setdefault(split_of(relative.parent), []).append(picture)
        for label, box, outline in _objects(content['shapes'], size, findings, relative):
            if label in NO_CLASS and not (classes and label in classes):
                findings.warning(f'shapes called {label}, left out', relative)
                continue
            if classes and label not in classes:
                findings.warning('objects of other classes, left out', label)
                continue
            labels.add(label)
            instance = make_instance(findings, relative, size, label, box, outline)
            if instance is not None:
                picture.instances.append(instance)
    contents.classes = list(classes) if classes else sorted(labels)
    return contents


def _objects(shapes, size, findings, where):
    """``(label, box, outline)`` of each object."""
    groups: dict = {}
    for number, shape in enumerate(shapes):
        try:
            label = str(shape['label']).strip()
            kind = shape.get('shape_type') or 'polygon'
            points = np.asarray(shape['points'], float).reshape(-1, 2)  # (N, 2)
            if kind not in ('polygon', 'rectangle', 'circle', 'mask'):
                findings.warning('shapes that enclose nothing, left out', f'{kind} in {where}')
                continue
            part = _part(kind, points, shape, size)
        except (KeyError, TypeError, ValueError, AttributeError, OSError, binascii.Error):
            findings.warning('shapes that cannot be read, left out', where)
            continue
        group = shape.get('group_id')
        key = (label, number) if group is None else (label, 'group', str(group))
        groups.setdefault(key, []).append(part)
    for (label, *_), parts in groups.items():
        kinds = {type(part) for part in parts}
        if len(parts) == 1 and kinds == {tuple}:
            yield label, list(parts[0]), None
        elif len(parts) == 1 and kinds == {dict}:
            yield label, None, parts[0]
        elif kinds == {list}:
            yield label, None, parts
        elif kinds == {dict}:
            from pycocotools import mask as coco_masks

            codes = [coco_masks.frPyObjects(part, *part['size']) for part in parts]
            code = coco_masks.merge(codes)
            yield label, None, dict(code, counts=code['counts'].decode())
        else:
            findings.warning('groups of shapes of several kinds, left out', f'{label} in {where}')


def _part(kind, points, shape, size):
    """A box (tuple), a polygon (list) or a run-length code (dict)."""
    if kind == 'polygon':
        return points.ravel().tolist()
    if kind == 'circle':
        radius = math.dist(*points[:2])
        angles = np.arange(CORNERS) * (2 * math.pi / CORNERS)
        circle = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], 1)  # (CORNERS, 2)
        return circle.ravel().tolist()
    low, high = points.min(0), points.max(0)
    if len(points) < 2:
        raise ValueError('two corners are needed')
    if kind == 'rectangle':
        return (*low.tolist(), *(high - low).tolist())
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(shape['mask']))) as image:
        patch = np.asarray(image) > 0
    left, top = (int(side) for side in low)
    whole = np.zeros(size[::-1], bool)
    target = whole[top : top + patch.shape[0], left : left + patch.shape[1]]
    target[:] = patch[: target.shape[0], : target.shape[1]]
    return run_lengths(whole)


def run_lengths(mask: np.ndarray) -> dict:
    """A mask (H, W) as COCO's run-length code, in numbers: columns, beginning with what is 0."""
    column = mask.astype(np.int8).ravel(order='F')  # (H, W) -> (W H)
    changes = np.flatnonzero(np.diff(column, prepend=0))
    counts = np.diff([0, *changes, column.size])
    return dict(size=list(mask.shape), counts=counts.tolist())
