"""Formats of annotations that do not train as they are: told apart, and read.

``data/convert.py`` writes what they hold in the layouts of docs/data.md. The readers are small and
our own: supervision turns outlines into masks of whole pixels and back, and gives up a folder for
one bad line; datumaro brings a second OpenCV and another Pillow into the environment.
"""

from collections.abc import Callable
from pathlib import Path

from ..coco import DataError
from ..findings import Findings
from . import coco, colours, labelme, voc, yolo
from .records import walk

READERS: dict[str, Callable] = dict(
    yolo=yolo.read, voc=voc.read, labelme=labelme.read, coco=coco.read, colours=colours.read
)
TITLES = dict(yolo='YOLO', voc='Pascal VOC', labelme='labelme', coco='COCO',
              colours='masks of colours')  # fmt: skip
LOOKED_AT = 20  # files of a kind


def find_format(root: Path) -> str | None:
    """The key in ``READERS`` of what a folder holds, or None.

    Raises:
        DataError: a file that would tell it cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        return None
    if any((root / name).is_file() for name in colours.TABLES):
        return 'colours'
    annotated = annotated_as(root)
    if annotated:
        return annotated[0]
    pairs = colours.find_pairs(root, Findings())
    masks = [pair.mask for split in pairs.values() for pair in split[:3]]
    if any(colours.is_colour_mask(mask) for mask in masks):
        return 'colours'
    return None


def annotated_as(root: Path) -> list[str]:
    """The keys in ``READERS`` of all annotation files of a folder; the first is the one to read."""
    found = []
    if any(voc.is_voc(path) for path in walk(root, ['.xml'])[:LOOKED_AT]):
        found.append('voc')
    some = walk(root, ['.json'])[:LOOKED_AT]
    if any(labelme.is_labelme(path) for path in some):
        found.append('labelme')
    if any(coco.is_coco(path) for path in some):
        found.append('coco')
    if walk(root, ['.names']) or yolo.find_settings(root)[0] or _has_label_lines(root):
        found.append('yolo')
    return found


def _has_label_lines(root):
    """Return True if a text file begins with a line of five numbers or more, a whole one first."""
    for path in walk(root, ['.txt'])[:LOOKED_AT]:
        values = path.read_text(encoding='utf-8', errors='replace').split('\n')[0].split()
        try:
            if len(values) >= 5 and float(values[0]).is_integer():
                [float(value) for value in values]
                return True
        except ValueError:
            continue
    return False


def looks_like(root: str | Path) -> str | None:
    """A sentence that names the format of a folder and the line that converts it; None: none known.

    A folder in a layout that trains as it is has none.
    """
    root = Path(root)
    if (root / 'annotations/instances_train.json').is_file() and (root / 'images/train').is_dir():
        return None
    try:
        found = find_format(root)
    except (DataError, OSError):  # this is advice beside another error, which says more
        return None
    if found is None:
        return None
    return (
        f'{root} looks like {TITLES[found]}: convert it with '
        f'"mmhybrid data convert {root} {root}-converted"'
    )
