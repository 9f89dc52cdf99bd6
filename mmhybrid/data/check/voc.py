"""Checks of boxes in Pascal VOC's format."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ..findings import Reading, Split, inside, note_image, try_to_read
from .coco import check_box
from .lists import read_list


def check_voc(
    name: str, root: Path, list_file: Path, classes: Sequence[str], reading: Reading | None = None
) -> Split:
    """Boxes as XML: ``Annotations/*.xml`` and ``JPEGImages/*.jpg`` of the names in a list."""
    split = Split(name, f'{list_file}, images in {root / "JPEGImages"}', 'boxes')
    split.counts.update(dict.fromkeys(classes, 0))
    expected = {}
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
            check_box(split.findings, [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1], size, stem)
        if not boxes:
            split.findings.warning('images without boxes', stem)
        split.in_images.update({label for label, _ in boxes if label in split.counts})
    for path, found in (reading or Reading()).each(name, list(expected), try_to_read):
        note_image(split, path, found, expected[path])
    return split
