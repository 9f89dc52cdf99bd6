"""Pascal VOC: an XML file for each image. As labelImg, CVAT and Roboflow write it, too."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ..findings import Findings, shown
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

LIST_FOLDERS = ('ImageSets/Main', 'ImageSets/Layout')


def read(root: Path, classes: list[str] | None = None) -> Contents:
    """The contents of a folder with XML files.

    Boxes are those of MMDetection's VOC data set: from ``xmin - 1`` to ``xmax - 1``.
    """
    contents = Contents()
    findings = contents.findings
    index = ImageIndex(root)
    listed = Lists(root, LIST_FOLDERS, findings)
    documents = {}
    for path in walk(root, ['.xml']):
        try:
            document = _parse(path)
        except (OSError, ElementTree.ParseError, ValueError) as error:
            findings.warning('XML files that cannot be read', f'{path.relative_to(root)} ({error})')
            continue
        if document.tag != 'annotation':
            findings.warning('XML files of another kind', path.relative_to(root))
            continue
        beside = path.parent.parent
        near = [beside / 'JPEGImages', beside / 'images', path.parent]
        image = index.find(document.findtext('filename'), path.stem, near)
        twin = [found for found in index.by_stem.get(path.stem.lower(), []) if found.parent in near]
        image = twin[0] if len(twin) == 1 else image  # as the host: the name of the XML file
        if image is None:
            findings.warning('XML files without their image', path.relative_to(root))
        elif image in documents:
            findings.warning('images of two XML files, the second left out', path.relative_to(root))
        else:
            documents[image] = (path, document)
    for path in index.others(documents):
        findings.warning('images without an XML file, left out', path)
    sizes = read_sizes(list(documents), findings)
    for image, (path, document) in documents.items():
        if image not in sizes:
            continue
        size = sizes[image]
        stated = [_number(document.findtext(f'size/{side}')) for side in ('width', 'height')]
        if not has_size(findings, image.relative_to(root), size, stated):
            continue
        relative = path.relative_to(root)
        splits = listed.splits_of(path) if listed else [split_of(relative.parent)]
        if not splits:
            findings.warning('images in none of the lists, left out', relative)
            continue
        picture = Picture(image, new_name(image.relative_to(root)), size)
        for split in splits:
            contents.splits.setdefault(split, []).append(picture)
        for one in document.findall('object'):
            instance = _instance(one, picture, findings, relative)
            if instance is not None and (not classes or instance.label in classes):
                picture.instances.append(instance)
            elif instance is not None:
                findings.warning('objects of other classes, left out', instance.label)
    difficult = {id(one) for pictures in contents.splits.values() for picture in pictures
                 for one in picture.instances if one.crowd}  # fmt: skip
    if difficult:
        findings.warning(
            f'{len(difficult)} objects marked difficult: kept as iscrowd, and not trained on'
        )
    labels = {instance.label for pictures in contents.splits.values()
              for picture in pictures for instance in picture.instances}  # fmt: skip
    contents.classes = list(classes) if classes else sorted(labels)
    return contents


def _parse(path):
    text = path.read_bytes()
    if b'<!ENTITY' in text:  # which can grow to any size
        raise ValueError('it defines entities')
    return ElementTree.fromstring(text)


class Lists:
    """The lists of VOC folders, which name the images of each split; false if there are none.

    They may lie two levels down, as ``VOC2007/ImageSets/Main`` does, and name what lies below that
    folder. trainval is read only where it says more than train and val.

    Args:
        root: the folder.
        folders: of lists, such as ``ImageSets/Main``; the first that is there is read.
        findings: take what cannot be read.
    """

    def __init__(self, root: Path, folders: Sequence[str], findings: Findings):
        # Folder above ImageSets -> line, or its first word -> splits.
        self.lines: dict[Path, dict[str, list[str]]] = {}
        self.words: dict[Path, dict[str, list[str]]] = {}
        for folder in folders:
            for above in ('', '*/', '*/*/'):
                for place in sorted(root.glob(above + folder)):
                    self._read(place, findings)
            if self:
                return

    def __bool__(self) -> bool:
        return any(self.lines.values())

    def splits_of(self, path: Path) -> list[str]:
        """Return the splits of an image or its annotation; none if no list has it."""
        above = [folder for folder in path.parents if folder in self.lines]
        for folder in above[:1] or (self.lines if len(self.lines) == 1 else ()):
            found = self.lines[folder].get(path.stem) or self.words[folder].get(path.stem)
            return found or []
        return []

    def _read(self, place: Path, findings: Findings) -> None:
        files = {path.stem.lower(): path for path in place.glob('*.txt')}
        if 'train' in files or 'val' in files:
            files.pop('trainval', None)
        folder = place.parent.parent
        for name, path in files.items():
            split = 'train' if name in ('trainval', 'default') else split_of(Path(name, 'x'))
            if name not in ('train', 'trainval', 'default') and split == 'train':
                continue  # a list of one class
            try:
                lines = path.read_text(encoding='utf-8').splitlines()
            except (OSError, ValueError) as error:
                findings.warning('lists that cannot be read', f'{path}: {shown(error)}')
                continue
            for line in lines:
                if line.split():
                    self._add(self.lines.setdefault(folder, {}), line.strip(), split)
                    self._add(self.words.setdefault(folder, {}), line.split()[0], split)

    @staticmethod
    def _add(found: dict[str, list[str]], name: str, split: str) -> None:
        stem = Path(name).name
        stem = stem if not stem.endswith(('.jpg', '.png')) else stem[:-4]
        splits = found.setdefault(stem, [])
        if split not in splits:
            splits.append(split)


def _number(text):
    try:
        return round(float(text))
    except (TypeError, ValueError, OverflowError):
        return None


def _instance(one, picture, findings, where):
    label = (one.findtext('name') or '').strip()
    if not label:
        findings.warning('objects without a name, left out', where)
        return None
    try:
        x0, y0, x1, y1 = (
            float(one.findtext(f'bndbox/{key}')) - 1 for key in ('xmin', 'ymin', 'xmax', 'ymax')
        )
    except (TypeError, ValueError):
        findings.warning('boxes that are not four numbers, left out', where)
        return None
    box = [x0, y0, x1 - x0, y1 - y0]
    polygon = one.find('polygon')
    outline = None
    if polygon is not None:
        points = {child.tag: child.text for child in polygon}
        try:
            outline = [[
                float(points[f'{axis}{i}']) - 1
                for i in range(1, len(points) // 2 + 1) for axis in 'xy'
            ]]  # fmt: skip
        except (KeyError, TypeError, ValueError):
            findings.warning('outlines that cannot be read: the box is kept', where)
    # The mark that COCO's data set and metric know for what is neither learned nor counted.
    crowd = int(_number(one.findtext('difficult')) == 1)
    return make_instance(findings, where, picture.size, label, box, outline, crowd=crowd)


def is_voc(path: Path) -> bool:
    """Return True if an XML file begins as VOC's do."""
    return b'<annotation' in read_ends(path)
