"""The common parts of the readers: images with their objects, and what was odd about them."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..coco import DataError
from ..findings import Findings, Reading, by, try_to_read
from ..listing import IMAGE_SUFFIXES, is_image, walk

SPLITS = ('train', 'val', 'test')
# As folders are called; with a year in VOC's, obj_train_data in CVAT's YOLO.
SPLIT_FOLDER = re.compile(
    r'(?:obj_)?(train|training|val|valid|validation|test|testing)(?:\d{4}|_data)?', re.IGNORECASE
)
# As folders of masks are called, and those of annotations, in which masks may lie.
MASK_FOLDER = re.compile(
    r'(.*[_-])?(masks?|labels?|annot|annotations?|SegmentationClass|gt)', re.IGNORECASE
)
OTHER_MASKS = re.compile(r'SegmentationObject|panoptic_.*')
LAYOUT_FOLDERS = ('images', 'JPEGImages', 'Annotations')
ENDS = 4096  # bytes of a file by which its format is told


@dataclass
class Instance:
    """An object.

    Attributes:
        label: its class.
        box: x, y, width and height in pixels.
        outline: polygons ``[[x, y, x, y, ...], ...]``, a run-length code as COCO has it, or None.
        area: in pixels, of the outline if there is one.
        crowd, ignore: COCO's marks, 0 or 1.
        lost: it was annotated with an outline, which is none; 0 or 1.
    """

    label: str
    box: list[float]
    outline: list | dict | None
    area: float
    crowd: int = 0
    ignore: int = 0
    lost: int = 0


@dataclass
class Picture:
    """An image: its file, its name below the new image folder, (width, height), its objects."""

    path: Path
    name: str
    size: tuple[int, int]
    instances: list[Instance] = field(default_factory=list)


@dataclass
class Contents:
    """The objects of a folder, by split, and what was odd, left out or changed."""

    classes: list[str] = field(default_factory=list)
    splits: dict[str, list[Picture]] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)


def split_of(path: Path) -> str:
    """The split that a folder of a relative path names: train, val or test; train if none does."""
    for part in path.parts:
        match = SPLIT_FOLDER.fullmatch(part)
        if match:
            return next(split for split in SPLITS if match[1].lower().startswith(split))
    return 'train'


def new_name(relative: Path) -> str:
    """The name of an image below the new folder: without the folders that only a layout has."""
    parts = [
        part for part in relative.parts[:-1]
        if part not in LAYOUT_FOLDERS and not SPLIT_FOLDER.fullmatch(part)
    ]  # fmt: skip
    return '/'.join([*parts, relative.name])


def read_ends(path: Path) -> bytes:
    """The first and the last bytes of a file, which tell its format.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with open(path, 'rb') as file:
            head = file.read(ENDS)
            file.seek(max(len(head), path.stat().st_size - ENDS))
            return head + file.read()
    except OSError as error:
        raise DataError(f'{path} cannot be read: {error.strerror}') from error


class ImageIndex:
    """The images of a folder, found by what an annotation calls them."""

    def __init__(self, root: Path):
        self.root = root
        self.by_name: dict[str, list[Path]] = {}
        self.by_stem: dict[str, list[Path]] = {}
        for path in walk(root, IMAGE_SUFFIXES):
            self.by_name.setdefault(path.name.lower(), []).append(path)
            self.by_stem.setdefault(path.stem.lower(), []).append(path)

    def find(self, name: str | None, stem: str | None, near: Iterable[Path]) -> Path | None:
        """The image called ``name``, in one of the folders ``near``, else the only one so called.

        ``stem`` is what it may be called without a suffix. Folders before the name are tried with
        it and without. None is found if several elsewhere have the name, and nothing in folders of
        masks.
        """
        near = list(near)
        parts = [part for part in re.split(r'[\\/]+', name or '') if part not in ('', '.', '..')]
        for folder in near:
            for start in range(len(parts)):
                path = folder.joinpath(*parts[start:])
                if path.is_file() and is_image(path):
                    return path
        stem = stem or (Path(parts[-1]).stem if parts else '')
        names = self.by_name.get(parts[-1].lower(), []) if parts else []
        for paths in (names, self.by_stem.get(stem.lower(), [])):
            paths = [path for path in paths if path.parent in near or not self._is_mask(path)]
            here = [path for path in paths if path.parent in near]
            if len(here) == 1 or len(paths) == 1:
                return (here or paths)[0]
        return None

    def _is_mask(self, path):
        """Return True for a file of a folder that is called as those of masks are."""
        for part in reversed(path.relative_to(self.root).parts[:-1]):
            if MASK_FOLDER.fullmatch(part) or OTHER_MASKS.fullmatch(part):
                return True
            if part in LAYOUT_FOLDERS:  # annotations/images
                return False
        return False

    def others(self, used: Collection[Path]) -> list[Path]:
        """The images that are not among ``used``, relative to the folder, sorted."""
        paths = {path for paths in self.by_name.values() for path in paths}
        return sorted(path.relative_to(self.root) for path in paths.difference(used))


def read_sizes(paths: Sequence[Path], findings: Findings) -> dict[Path, tuple[int, int]]:
    """(width, height) of the images that can be read, turned by their EXIF entry as hosts do."""
    sizes = {}
    for path, found in Reading().each(None, list(dict.fromkeys(paths)), try_to_read):
        if isinstance(found, str):
            findings.warning(f'{found}, left out', path)
        else:
            sizes[path] = found['size']
    return sizes


def has_size(
    findings: Findings, where: object, size: tuple[int, int], stated: Sequence[object]
) -> bool:
    """Return False (and add a finding) if an annotation states another (width, height).

    Sizes that are no positive numbers state nothing.
    """
    known = [side for side in stated if isinstance(side, (int, float)) and side > 0]
    if len(known) < 2 or tuple(known) == size:
        return True
    findings.warning(
        'images of another size than annotated, left out',
        f'{where} has {by(size)}, annotated {by(known)}',
    )
    return False


def make_instance(
    findings: Findings,
    where: object,
    size: tuple[int, int],
    label: str,
    box: Sequence[float] | None,
    outline: list | dict | None = None,
    **marks: int,
) -> Instance | None:
    """An object inside its image, or None (and a finding) if it is none.

    Args:
        findings: take what is odd.
        where: its file, for them.
        size: (width, height) of the image.
        label: its class.
        box: x, y, width, height in pixels; None: that of the outline.
        outline: as in ``Instance``; what reaches out of the image is cut.
        marks: ``crowd``, ``ignore``.
    """
    from pycocotools import mask as coco_masks

    width, height = size
    area = None
    if isinstance(outline, dict):
        if list(outline.get('size', ())) != [height, width]:
            findings.warning('masks of another size than their image, left out', where)
            return None
        counts: Any = outline.get('counts')
        try:
            code = (
                coco_masks.frPyObjects(outline, height, width) if isinstance(counts, list)
                else dict(size=[height, width], counts=counts)
            )  # fmt: skip
            whole = isinstance(counts, str) or sum(counts) == width * height
            area = float(coco_masks.area(code)) if whole else None
        except (TypeError, ValueError, KeyError):
            area = None
        if area is None:
            findings.warning('run lengths that do not fill the image, left out', where)
            return None
        box = coco_masks.toBbox(code).tolist() if box is None else box
    elif outline:
        parts = []
        for part in outline:
            if len(part) < 6 or len(part) % 2 or not np.isfinite(part).all():
                findings.warning('outlines that are not three points or more, left out', where)
                continue
            points = np.asarray(part, float).reshape(-1, 2)  # (2 N) -> (N, 2)
            parts.append(points.clip(0, size).ravel().round(3).tolist())
        marks['lost'] = int(not parts)
        outline = parts or None
        if parts:
            codes = coco_masks.frPyObjects(parts, height, width)
            area = float(coco_masks.area(coco_masks.merge(codes)))
        elif box is None:
            return None
        if box is None:
            points = np.concatenate([np.reshape(part, (-1, 2)) for part in parts])  # (N, 2)
            low, high = points.min(0), points.max(0)
            box = [*low, *(high - low)]
    else:
        outline = None
    if box is None or len(box) != 4 or not np.isfinite(box).all():
        findings.warning('boxes that are not four numbers, left out', f'{box} in {where}')
        return None
    x, y, w, h = map(float, box)
    left, top = min(max(x, 0), width), min(max(y, 0), height)
    right, bottom = min(x + w, width), min(y + h, height)
    text = f'{[round(side, 1) for side in (x, y, w, h)]} in {where}'
    if w <= 0 or h <= 0 or area == 0:
        findings.warning('objects of no area, left out', text)
        return None
    if right <= left or bottom <= top:
        findings.warning('objects outside their image, left out', f'{text} of {by(size)}')
        return None
    if min(x, y) < -1 or x + w > width + 1 or y + h > height + 1:
        findings.warning('boxes that reach out of their image, cut at its border', text)
    box = [round(side, 3) for side in (left, top, right - left, bottom - top)]
    return Instance(label, box, outline, box[2] * box[3] if area is None else area, **marks)


def check_classes(names: Sequence[object], where: object) -> list[str]:
    """Class names as text, each once.

    Raises:
        DataError: a name is empty or given twice.
    """
    texts = [str(name).strip() for name in names]
    wrong = sorted({text for text in texts if not text or texts.count(text) > 1})
    if wrong:
        raise DataError(
            f'class names of {where}, empty or given twice: {", ".join(map(repr, wrong[:8]))}; '
            'give each class a name of its own'
        )
    return texts
