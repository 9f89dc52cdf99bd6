"""COCO files as CVAT, Roboflow and Label Studio write them, panoptic ones, and others elsewhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_masks

from ..coco import DataError, read_text
from ..findings import inside, shown, try_to_read
from .records import (
    Contents,
    ImageIndex,
    Picture,
    check_classes,
    has_size,
    make_instance,
    new_name,
    read_ends,
    read_sizes,
    split_of,
    walk,
)

KEYS = ('images', 'annotations', 'categories', 'info', 'licenses', 'category_id', 'file_name',
        'image_id')  # fmt: skip


def is_coco(path: Path) -> bool:
    """Return True if a JSON file names two or more of COCO's keys at its ends."""
    ends = read_ends(path)
    return sum(f'"{key}"'.encode() in ends for key in KEYS) >= 2


def read(root: Path, classes: list[str] | None = None) -> Contents:
    """The objects of all COCO files of a folder, their categories by name.

    Outlines and run-length codes are kept. A mask that CVAT painted has ``iscrowd: 1``, which no
    training uses: it becomes an object. So do the things of panoptic files, with their masks.
    """
    contents = Contents()
    findings = contents.findings
    index = ImageIndex(root)
    files = []
    for path in walk(root, ['.json']):
        if not is_coco(path):
            continue
        try:
            content = json.loads(read_text(path).lstrip('\ufeff'))
        except (DataError, ValueError, RecursionError) as error:
            findings.warning('JSON files that cannot be read', f'{path.name} ({error})')
            continue
        if isinstance(content, dict) and all(
            isinstance(content.get(key), list) for key in ('images', 'annotations', 'categories')
        ):
            files.append((path, content))
    names = {path: _categories(content, findings) for path, content in files}
    known = list(dict.fromkeys(name for table in names.values() for name in table.values()))
    contents.classes = check_classes(classes or known, 'the COCO files')
    for path, content in sorted(files, key=lambda file: _is_panoptic(file[1])):
        split = _split(path, root)
        pictures = _pictures(path, content, index, findings, split)
        if _is_panoptic(content):
            _add_segments(path, content, names[path], pictures, contents)
        else:
            _add_instances(content, names[path], pictures, contents)
        known = contents.splits.setdefault(split, [])
        _join(known, pictures.values(), _is_panoptic(content), findings)
    return contents


def _join(known, pictures, panoptic, findings):
    """Add pictures to those of a split; an image of several files is one, with all its objects."""
    by_path = {picture.path: picture for picture in known}
    for picture in pictures:
        other = by_path.setdefault(picture.path, picture)
        if other is picture:
            known.append(picture)
            continue
        if panoptic and other.instances:  # the same things, with boxes that differ by a pixel
            findings.warning('panoptic masks of images with objects in another file', other.name)
            continue
        findings.warning('images that are listed twice: one, with the objects of both', other.name)
        there = {(instance.label, *instance.box): instance for instance in other.instances}
        for instance in picture.instances:
            twin = there.get((instance.label, *instance.box))
            if twin is None:
                other.instances.append(instance)
                continue
            findings.warning('objects that are there twice, the second left out', other.name)
            if twin.outline is None and instance.outline is not None:
                twin.outline, twin.area, twin.lost = instance.outline, instance.area, 0


def _key(value):
    """An id, or None for what cannot be one."""
    return value if isinstance(value, (int, float, str)) else None


def _split(path, root):
    """By the file's name, as ``instances_val.json``, or its folder."""
    relative = path.relative_to(root)
    for word in path.stem.replace('.', '_').replace('-', '_').split('_')[::-1]:
        if split_of(Path(word, 'x')) != 'train':
            return split_of(Path(word, 'x'))
    return split_of(relative)


def _categories(content, findings):
    """Name by id. Roboflow's category above the others, without an object, is none."""
    rows = [row for row in content['categories'] if isinstance(row, dict)]
    rows = [row for row in rows if _key(row.get('id')) is not None and 'name' in row]
    if _is_panoptic(content):
        rows = [row for row in rows if row.get('isthing')]
    used = {_key(row.get('category_id')) for row in content['annotations'] if isinstance(row, dict)}
    above = {row.get('supercategory') for row in rows}
    found = {}
    rows.sort(key=lambda row: (isinstance(row['id'], str), row['id']))
    for row in rows:
        name = str(row['name']).strip()
        root = row.get('supercategory') in ('none', '') and name in above
        if root and row['id'] not in used and len(rows) > 1:
            findings.warning('categories above the others, without objects, left out', name)
        else:
            found[_key(row['id'])] = name
    return found


def _is_panoptic(content):
    rows = content['annotations']
    return bool(rows) and isinstance(rows[0], dict) and 'segments_info' in rows[0]


def _pictures(path, content, index, findings, split):
    """Pictures by id."""
    found = {}
    root = index.root
    for row in content['images']:
        if not isinstance(row, dict) or _key(row.get('id')) is None:
            findings.warning('images without an id, left out', row)
            continue
        name = row.get('file_name')
        near = [path.parent, path.parent / 'images', root / 'images' / path.stem.split('_')[-1],
                root / 'images' / split, root / 'images', root / split, root]  # fmt: skip
        image = index.find(name, None, near) if isinstance(name, str) else None
        if image is None:
            findings.warning('images that are listed and not there', name)
        else:
            found[_key(row['id'])] = (image, row)
    sizes = read_sizes([image for image, _ in found.values()], findings)
    pictures = {}
    for key, (image, row) in found.items():
        if image not in sizes:
            continue
        stated = (row.get('width'), row.get('height'))
        if not has_size(findings, image.relative_to(root), sizes[image], stated):
            continue
        pictures[key] = Picture(image, new_name(image.relative_to(root)), sizes[image])
    return pictures


def _add_segments(path, content, names, pictures, contents):
    """Objects from masks whose colours are numbers of segments, in a folder called as the file."""
    findings = contents.findings
    stuff = 0
    for row in content['annotations']:
        row = row if isinstance(row, dict) else {}
        picture = pictures.get(_key(row.get('image_id')))
        if picture is None:
            findings.warning('objects of images that are not there', shown(row.get('file_name')))
            continue
        mask = inside(path.with_suffix(''), row.get('file_name'))
        found = 'masks whose name leads out of their folder'
        if mask is not None:
            found = try_to_read(mask, whole=True)
        if isinstance(found, str):
            findings.warning(f'{found.replace("image", "mask")}: without objects', mask)
            continue
        colours = found['pixels']
        if colours.ndim != 3 or colours.shape[1::-1] != picture.size:
            findings.warning("masks that are not of three channels and their image's size", mask)
            continue
        numbers = colours[..., :3].astype(np.int64) @ (1, 256, 256**2)
        for segment in row['segments_info']:
            label = names.get(_key(segment.get('category_id')))
            if label is None:
                stuff += 1
                continue
            if label not in contents.classes:
                findings.warning('objects of other classes, left out', label)
                continue
            code = coco_masks.encode(np.asfortranarray(numbers == segment.get('id'), np.uint8))
            instance = make_instance(
                findings, f'segment {shown(segment.get("id"))} of {picture.name}', picture.size,
                label, None, dict(size=code['size'], counts=code['counts'].decode()),
                crowd=int(segment.get('iscrowd') == 1),
            )  # fmt: skip
            if instance is not None:
                picture.instances.append(instance)
    if stuff:
        findings.warning(f'{stuff} segments of stuff in {path.name}, no objects: left out')


def _add_instances(content, names, pictures, contents):
    findings = contents.findings
    painted = 0
    for row in content['annotations']:
        row = row if isinstance(row, dict) else {}
        where = f'annotation {shown(row.get("id"))}'
        picture = pictures.get(_key(row.get('image_id')))
        label = names.get(_key(row.get('category_id')))
        if picture is None:
            findings.warning('objects of images that are not there', where)
            continue
        if label is None:
            findings.warning('objects of unknown categories, left out', where)
            continue
        if label not in contents.classes:
            findings.warning('objects of other classes, left out', label)
            continue
        outline = row.get('segmentation') or None
        if isinstance(outline, list) and not isinstance(outline[0], list):
            outline = [outline]
        crowd = int(row.get('iscrowd') == 1)
        attributes = row.get('attributes')
        if crowd and isinstance(outline, dict) and isinstance(attributes, dict):
            if 'occluded' in attributes:  # CVAT writes it of every object
                crowd, painted = 0, painted + 1
        box: Any = row.get('bbox')
        try:
            box = None if not box and outline else [float(side) for side in box]
            for part in outline if isinstance(outline, list) else ():
                np.asarray(part, float)
        except (TypeError, ValueError):
            findings.warning('boxes or outlines that are not numbers, left out', where)
            continue
        instance = make_instance(
            findings, f'{where} of {picture.name}', picture.size, label, box, outline,
            crowd=crowd, ignore=int(bool(row.get('ignore'))),
        )  # fmt: skip
        if instance is not None:
            picture.instances.append(instance)
    crowds = [t for p in pictures.values() for t in p.instances if t.crowd or t.ignore]
    if painted:
        findings.warning(f'{painted} painted masks that CVAT marks as crowds became objects')
    if crowds:
        findings.warning(
            f'{len(crowds)} objects marked iscrowd or ignore: kept so, and not trained on'
        )
