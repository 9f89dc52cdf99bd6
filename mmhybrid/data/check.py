"""Checks of data folders before a training: ``tools/check_data.py`` prints it.

A check reads every file of a split and returns a ``Split``: counts, and findings. An error is what
stops a training or spoils it; a warning is what deserves a look. Files may be hostile: nothing
outside the folder is opened, nothing of a size that its file only declares is allocated.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from .coco import DataError, check_are_text, check_class_names, read_text
from .findings import Findings, Reading, Split, by, inside, note_image, shown, try_to_read
from .fit import IMAGE_SUFFIXES, check_mask_values

RARE = 0.01  # of the largest class: a class with less is called rare


# ---------------------------------------------------------------------------- COCO format


def check_coco(
    name: str,
    annotations: Path,
    root: Path,
    classes: Sequence[str] | None = None,
    masks: bool = False,
    reading: Reading | None = None,
    *,
    evaluated: bool = False,
    lvis: bool = False,
) -> Split:
    """A COCO-format file and the images it names.

    Args:
        name: of the split.
        annotations: the JSON file.
        root: the folder below which its images lie.
        classes: class names of the config; those of the file if None.
        masks: True if every box needs a mask.
        reading: how images are read.
        evaluated: True if AP is computed on it, which takes more than a training does.
        lvis: as LVIS has it: images by their ``coco_url``, nothing that says what is a crowd.
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
            split.counts[names[_key(row['category_id'])]] += 1
            _check_box(split.findings, row.get('bbox'), size, where)
            _check_outline(split.findings, row.get('segmentation'), size, where, masks)
        split.in_images.update({names[_key(row['category_id'])] for row in rows})
    expected = {path: _size(images[id_]) for id_, path in paths.items()}
    reading = reading or Reading()
    for path, found in reading.each(name, list(expected), try_to_read):
        note_image(split, path, found, expected[path])
    return split


def _read_json(path, findings):
    try:
        content = json.loads(read_text(path))
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
    return value if isinstance(value, (int, str)) else None


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


def _numbers(values):
    """Finite floats of a list, or None."""
    try:
        numbers = [float(value) for value in values if not isinstance(value, (str, bool))]
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == len(values) and all(map(math.isfinite, numbers)) else None


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
    area = _numbers([row.get('area')])
    if area is None:
        findings.error(
            'annotations without a number as "area": write the pixels of the mask, or width x '
            'height of the box',
            where,
        )
    elif area[0] <= 0:
        findings.warning('annotations with "area" 0, which are not trained on', where)
    if row.get('iscrowd', None if evaluated and not lvis else 0) not in (0, 1):
        findings.error(
            'annotations without 0 or 1 as "iscrowd": write 1 for a crowd in one outline, else 0',
            where,
        )


def _check_box(findings, box, size, where):
    numbers = _numbers(box)
    if numbers is None or len(numbers) != 4:
        findings.error('boxes that are not four numbers', f'{box} in {where}')
        return
    x, y, width, height = numbers
    text = f'{box} in {where}'
    if width < 1 or height < 1:
        findings.warning('boxes of no area, which are not trained on', text)
    elif size is not None:
        if x >= size[0] or y >= size[1] or x + width <= 0 or y + height <= 0:
            findings.error('boxes outside their image', text)
        elif min(x, y) < -1 or x + width > size[0] + 1 or y + height > size[1] + 1:
            findings.warning('boxes that reach out of their image', text)


def _check_outline(findings, outline, size, where, masks):
    if not outline:
        if masks:
            findings.error('boxes without a mask, which this config trains on', where)
    elif isinstance(outline, list):
        for polygon in outline:
            numbers = _numbers(polygon)
            if numbers is None or len(numbers) < 6 or len(numbers) % 2:
                findings.error('outlines that are not three points or more', where)
    elif isinstance(outline, dict):
        if size is not None and outline.get('size') != [size[1], size[0]]:
            findings.error('masks of another size than their image', where)
        else:
            runs = _runs(outline.get('counts'))
            total = None if size is None else size[0] * size[1]
            if runs is None or min(runs, default=0) < 0 or total not in (None, sum(runs)):
                findings.error('run lengths that do not fill the image', where)
    else:
        findings.error('masks that are neither outlines nor run lengths', where)


def _runs(counts):
    """Run lengths as numbers, given so or in COCO's letters; None if they are neither."""
    if not isinstance(counts, str):
        return _numbers(counts)
    runs, run, shift = [], 0, 0
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


# ---------------------------------------------------------------------------- Pascal VOC


def check_voc(
    name: str, root: Path, list_file: Path, classes: Sequence[str], reading: Reading | None = None
) -> Split:
    """Boxes as XML: ``Annotations/*.xml`` and ``JPEGImages/*.jpg`` of the names in a list."""
    split = Split(name, f'{list_file}, images in {root / "JPEGImages"}', 'boxes')
    split.counts.update(dict.fromkeys(classes, 0))
    expected = {}
    for stem in _read_list(list_file, split.findings):
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
                int(tree.findtext(f'size/{side}')) for side in ('width', 'height')
            )
            boxes = [
                (
                    one.findtext('name'),
                    [float(one.findtext(f'bndbox/{key}')) for key in
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
            split.counts[label] += 1
            _check_box(split.findings, [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1], size, stem)
        if not boxes:
            split.findings.warning('images without boxes', stem)
        split.in_images.update({label for label, _ in boxes if label in split.counts})
    for path, found in (reading or Reading()).each(name, list(expected), try_to_read):
        note_image(split, path, found, expected[path])
    return split


def _read_list(path, findings):
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, ValueError) as error:
        findings.error(f'list of images cannot be read: {shown(error)}')
        return []
    return [line.strip() for line in lines if line.strip()]


# ---------------------------------------------------------------------------- images and masks


def check_masks(
    name: str,
    images: Path,
    masks: Path,
    classes: Sequence[str] | None = None,
    suffixes: tuple[str | None, str] = (None, '.png'),
    ignore_index: int = 255,
    reduce_zero_label: bool = False,
    list_file: Path | None = None,
    reading: Reading | None = None,
) -> Split:
    """Images and their class maps.

    Args:
        name: of the split.
        images, masks: the two folders.
        classes: class names; None: the values of the masks are counted, whatever they are.
        suffixes: of images (None: any) and of masks.
        ignore_index, reduce_zero_label: as in the config.
        list_file: names without suffix; all images of the folder if None.
        reading: how images are read.
    """
    split = Split(name, f'images in {images}, masks in {masks}', 'pixels')
    for folder in (images, masks):
        if not folder.is_dir():
            split.findings.error(f'folder not found: {folder}')
    if split.findings.count('error'):
        return split
    if list_file is not None:
        stems = [
            (stem, inside(images, stem + suffixes[0])) for stem in
            _read_list(list_file, split.findings)
        ]  # fmt: skip
    else:
        paths = sorted(
            path for path in images.rglob('[!.]*')
            if (path.suffix.lower() in IMAGE_SUFFIXES if suffixes[0] is None
                else path.name.endswith(suffixes[0]))
        )  # fmt: skip
        stems = []
        for path in paths:
            text = path.relative_to(images).as_posix()
            stems.append((text[: -len(suffixes[0] or path.suffix)], path))
    pairs = []
    for stem, path in stems:
        if path is None:
            split.findings.error('file names that lead out of the folder', stem)
            continue
        split.names.add(stem)
        pairs.append((path, masks / f'{stem}{suffixes[1]}'))
    split.images = len(pairs)
    if not pairs:
        split.findings.error(f'no images in {images}')
    if list_file is None:
        used = {mask for _, mask in pairs}
        for mask in sorted(masks.rglob(f'[!.]*{suffixes[1]}')):
            if mask not in used:
                split.findings.warning('masks without an image', mask)
    first = int(reduce_zero_label)
    labels = {first + i: label for i, label in enumerate(classes or ())}
    split.counts.update(dict.fromkeys(labels.values(), 0))

    def read(pair):
        return try_to_read(pair[0]), try_to_read(pair[1], whole=True)

    for (path, mask), (image, class_map) in (reading or Reading()).each(name, pairs, read):
        good = note_image(split, path, image)
        if isinstance(class_map, str):
            split.findings.error(class_map.replace('image', 'mask'), mask)
            continue
        pixels, size = class_map['pixels'], class_map['size']
        if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.bool_):
            kind = f'{pixels.shape[2]} channels' if pixels.ndim == 3 else f'{pixels.dtype} pixels'
            split.findings.error(
                'masks that are not one channel of one byte a pixel', f'{mask} ({kind})'
            )
            continue
        if good and size != image['size']:
            split.findings.error(
                'masks of another size than their image',
                f'{mask} has {by(size)}, the image {by(image["size"])}',
            )
        histogram = np.bincount(pixels.ravel(), minlength=256)
        values = np.flatnonzero(histogram).tolist()
        if classes is not None:
            wrong = check_mask_values(values, len(classes), ignore_index, reduce_zero_label)
            if wrong:
                split.findings.error(
                    f'masks with values that are no class: expected {first} to '
                    f'{first + len(classes) - 1}, or {ignore_index}',
                    f'{mask} holds {", ".join(map(str, wrong[:5]))}',
                )
        used = [v for v in values if v != ignore_index and not (reduce_zero_label and v == 0)]
        if not used:
            split.findings.warning('masks without any class', mask)
        for value in used:
            label = labels.get(value) if classes is not None else f'value {value}'
            if label is not None:
                split.counts[label] += int(histogram[value])
                split.in_images[label] += 1
    return split


# ---------------------------------------------------------------------------- a folder a class


def check_classes(
    name: str,
    root: Path,
    num_classes: int | None = None,
    reading: Reading | None = None,
) -> Split:
    """Images in one folder a class.

    Args:
        name: of the split.
        root: the folder of the classes' folders.
        num_classes: how many folders there must be; any number if None.
        reading: how images are read.
    """
    split = Split(name, f'a folder a class in {root}', 'images')
    if not root.is_dir():
        split.findings.error(f'folder not found: {root}')
        return split
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    if num_classes not in (None, len(folders)):
        split.findings.error(f'{len(folders)} folders in {root}: expected {num_classes}')
    if not folders:
        split.findings.error(f'no folders in {root}: expected one for each class')
    files = []
    for folder in folders:
        split.counts[folder.name] = 0
        for path in sorted(folder.rglob('[!.]*')):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                files.append(path)
                split.counts[folder.name] += 1
            elif path.is_file():
                split.findings.warning('files that are no images', path)
    return _read_classified(split, root, files, reading)


def check_class_list(
    name: str,
    root: Path,
    listed: Path,
    classes: Sequence[str],
    reading: Reading | None = None,
) -> Split:
    """Images of a list, as ImageNet has it.

    Args:
        name: of the split.
        root: the folder of the images.
        listed: a line for each: its path below ``root``, and the number of its class.
        classes: their names in the order of the numbers.
        reading: how images are read.
    """
    split = Split(name, f'the images of {listed} in {root}', 'images')
    split.counts = Counter(dict.fromkeys(classes, 0))
    try:
        lines = read_text(listed).splitlines()
    except DataError as error:
        split.findings.error(str(error))
        return split
    files = []
    for line in filter(str.strip, lines):
        text, _, number = line.strip().rpartition(' ')
        if not text or not number.isdecimal() or int(number) >= len(classes):
            split.findings.error(
                f'lines without the number of a class, 0 to {len(classes) - 1}', shown(line)
            )
            continue
        path = inside(root, text)
        if path is None:
            split.findings.error('file names that lead out of the folder', text)
            continue
        files.append(path)
        split.counts[classes[int(number)]] += 1
    return _read_classified(split, root, files, reading)


def _read_classified(split, root, files, reading):
    """Read the images of a split whose counts are known."""
    split.in_images = split.counts
    split.images = len(files)
    split.names = {
        os.path.splitext(path.relative_to(root).as_posix())[0] for path in files
    }  # fmt: skip
    for path, found in (reading or Reading()).each(split.name, files, try_to_read):
        note_image(split, path, found)
    return split


# ---------------------------------------------------------------------------- classes, splits


def check_balance(split: Split, training: bool) -> None:
    """Classes that do not occur, and in training those that are rare; added to the findings."""
    if not split.counts:
        return
    largest = max(split.counts.values())
    for label, count in split.counts.items():
        if count == 0:
            split.findings.warning(f'classes without {split.unit}', label)
        elif training and count < RARE * largest:
            split.findings.warning(
                f'classes with less than a hundredth of the {split.unit} of the largest', label
            )


def check_overlap(train: Split, other: Split) -> Findings:
    """Images that are in both of two splits, by content and by name."""
    findings = Findings()
    for digest in train.digests.keys() & other.digests.keys():
        findings.error(
            'the same images in both', f'{train.digests[digest]} and {other.digests[digest]}'
        )
    if not findings.groups:
        for name in sorted(train.names & other.names):
            findings.warning('the same names in both, of different images', name)
    if train.counts and other.counts:
        for label in sorted(train.counts.keys() ^ other.counts.keys()):
            findings.warning('classes of one split only', label)
    return findings
