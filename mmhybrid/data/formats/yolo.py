"""YOLO: a text file for each image, a line for each object, in fractions of the image.

``class x y width height`` (the centre of the box) or ``class x y x y x y ...`` (an outline).
As Ultralytics, CVAT, Roboflow and Label Studio write it.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml

from ..coco import DataError, read_text
from ..findings import inside, shown
from ..listing import CLASS_FILE, IMAGE_SUFFIXES
from .records import (
    Contents,
    Picture,
    check_classes,
    make_instance,
    new_name,
    read_sizes,
    split_of,
    walk,
)

SPLITS = dict(train='train', val='val', valid='val', validation='val', test='test')
NAME_FILES = (CLASS_FILE, 'obj.names', 'classes.names', 'predefined_classes.txt')


def find_settings(root: Path) -> tuple[Path | None, dict]:
    """The YAML file at the top of the folder that names the classes, and its content."""
    for path in sorted([*root.glob('*.yaml'), *root.glob('*.yml')]):
        try:
            content = yaml.safe_load(read_text(path))
        except yaml.YAMLError as error:
            raise DataError(f'{path} is no YAML file: {shown(error)}') from error
        if isinstance(content, dict) and 'names' in content:
            return path, content
    return None, {}


def read(root: Path, classes: list[str] | None = None) -> Contents:
    """The contents of a YOLO folder.

    Raises:
        DataError: the classes are not known, or there are no images.
    """
    root = root.absolute()  # as the lines of lists may be
    settings_path, settings = find_settings(root)
    names = _class_names(root, classes, settings_path, settings)
    contents = Contents(list(classes or names.values()))
    pose: Sequence = settings.get('kpt_shape') or ()
    keypoints = int(pose[0]) * int(pose[1]) if len(pose) == 2 else 0
    found = _images(root, settings, contents.findings)
    sizes = read_sizes([path for paths in found.values() for path, _ in paths], contents.findings)
    for split, paths in found.items():
        pictures = contents.splits[split] = []
        for path, name in paths:
            if path not in sizes:
                continue
            picture = Picture(path, name, sizes[path])
            label = _label_file(path)
            if not label.is_file() and settings.get('skip_if_label_file_missing'):
                contents.findings.warning('images without a label file, left out', name)
                continue
            pictures.append(picture)
            if not label.is_file():
                contents.findings.warning('images without a label file: taken as empty', name)
                continue
            try:
                lines = read_text(label).splitlines()
            except DataError as error:
                contents.findings.warning('label files that cannot be read', str(error))
                continue
            for number, line in enumerate(lines, 1):
                if line.strip():
                    where = f'{_below(root, label)}:{number}'
                    instance = _instance(
                        line.split(), picture, names, keypoints, where, contents.findings
                    )
                    if instance is None:
                        continue
                    if instance.label in contents.classes:
                        picture.instances.append(instance)
                    else:
                        contents.findings.warning(
                            'objects of other classes, left out', instance.label
                        )
    read = {_label_file(path) for paths in found.values() for path, _ in paths}
    for label in walk(root, ['.txt']):
        if 'labels' in label.relative_to(root).parts and label not in read:
            contents.findings.warning('label files without their image', label.relative_to(root))
    return contents


def _below(root, path):
    """A path as it is shown: relative to the root, if it is below."""
    return path.relative_to(root) if path.is_relative_to(root) else path


def _class_names(root, given, settings_path, settings):
    """Name by number, as the folder has them; ``given`` of a folder without names."""
    place, names = _own_names(root, settings_path, settings)
    given = check_classes(given, 'the command line') if given else []
    if names is None and given:
        return dict(enumerate(given))
    if names is None:
        raise DataError(
            f'{root} looks like YOLO, but no data.yaml and no {CLASS_FILE} name its classes: give '
            'them in the order of their numbers with --classes car,bus,...'
        )
    if unknown := [name for name in given if name not in names.values()]:
        raise DataError(
            f'--classes: no {", ".join(map(repr, unknown))} in {place}, which names '
            f'{", ".join(map(repr, names.values()))}; choose of these, or change the file'
        )
    return names


def _own_names(root, settings_path, settings):
    """The file that names the classes, and name by number; None and None without one."""
    names = settings.get('names')
    if isinstance(names, dict):
        wrong = [key for key in names if not str(key).isdigit()]
        if wrong:
            raise DataError(
                f'names in {settings_path} by {shown(wrong[0])}: expected a number for each class'
            )
        texts = check_classes(list(names.values()), settings_path)
        return settings_path, dict(sorted(zip(map(int, names), texts, strict=True)))
    if isinstance(names, list) and names:
        return settings_path, dict(enumerate(check_classes(names, settings_path)))
    for name in NAME_FILES:
        if (root / name).is_file():
            lines = read_text(root / name).lstrip('\ufeff').splitlines()
            texts = [line for line in lines if line.strip()]
            return root / name, dict(enumerate(check_classes(texts, root / name)))
    return None, None


def _images(root, settings, findings):
    """Images by split, each with its name below the new image folder."""
    found: dict[str, list] = {}
    for key, split in SPLITS.items():
        entries = settings.get(key)
        for entry in entries if isinstance(entries, list) else [entries] if entries else []:
            paths = _listed(root, settings, str(entry))
            if paths is None:
                findings.warning('parts of the folder that are not there', f'{key}: {entry}')
            else:
                found.setdefault(split, []).extend(paths)
    if not any(found.values()):
        found = {}
        for path in walk(root, IMAGE_SUFFIXES):
            relative = path.relative_to(root)
            found.setdefault(split_of(relative.parent), []).append((path, new_name(relative)))
    found = {split: list(dict(paths).items()) for split, paths in found.items() if paths}
    if not found:
        raise DataError(f'no images in {root}: expected files ending in .jpg, .png or alike')
    return found


def _listed(root, settings, entry):
    """The images of an entry of the YAML file, a folder or a list of files; None without it."""
    bases = [root]
    path = str(settings.get('path') or '').strip()
    if path not in ('', '.'):
        bases = [base for base in (inside(root, path), root / Path(path).name) if base] + [root]
    entry = entry.replace('\\', '/')
    inner = entry
    while inner.startswith('../'):  # as Roboflow writes it, from where it is not
        inner = inner[3:]
    for base in bases:
        for name in (inner, inner.removeprefix('./')):
            place = inside(base, name)
            if place is None:
                continue
            if place.is_dir():
                return [
                    (path, path.relative_to(place).as_posix())
                    for path in walk(place, IMAGE_SUFFIXES)
                ]
            if place.is_file() and place.suffix == '.txt':
                lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
                paths = [
                    next((p for p in (base / line, root / line, root / Path(line).name)
                          if p.is_file()), base / line)
                    for line in (line.removeprefix('./') for line in lines)
                ]  # fmt: skip
                return [(path, path.name) for path in paths]
    return None


def _label_file(image):
    """The file that belongs to an image: below labels in the place of images, or beside it."""
    parts = list(image.parts)
    if 'images' in parts[:-1]:
        last = len(parts) - 2 - parts[:-1][::-1].index('images')
        parts[last] = 'labels'
    return Path(*parts).with_suffix('.txt')


def _instance(values, picture, names, keypoints, where, findings):
    try:
        number, *numbers = map(float, values)
    except ValueError:
        findings.warning('lines that are not numbers, left out', where)
        return None
    label = names.get(number)
    if label is None:
        findings.warning('numbers that are no class, left out', f'{values[0]} in {where}')
        return None
    width, height = picture.size
    if keypoints and len(numbers) == 4 + keypoints:
        numbers = numbers[:4]
    if len(numbers) < 4 or any(not -1 <= value <= 2 for value in numbers[:4]):
        findings.warning(
            'lines that are no box and no outline in fractions of the image, left out', where
        )
        return None
    if len(numbers) <= 5:  # a fifth is a confidence or a track
        x, y, w, h = numbers[:4]
        box = [(x - w / 2) * width, (y - h / 2) * height, w * width, h * height]
        return make_instance(findings, where, picture.size, label, box)
    numbers = numbers[: len(numbers) // 2 * 2]
    outline = [value * (height if i % 2 else width) for i, value in enumerate(numbers)]
    return make_instance(findings, where, picture.size, label, None, [outline])
