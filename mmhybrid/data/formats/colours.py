"""Masks whose pixels are colours, with a table that names them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..coco import DataError, read_text
from ..findings import Findings
from ..listing import IMAGE_SUFFIXES
from .records import LAYOUT_FOLDERS, MASK_FOLDER, SPLIT_FOLDER, new_name, split_of, walk
from .voc import Lists

TABLES = ('labelmap.txt', 'label_colors.txt', 'class_dict.csv')
MASK_ENDING = re.compile(r'[_-](masks?|labels?|colou?r|gt|L)$')
NONE = ('void', 'ignore', 'unlabelled', 'unlabeled')  # names of colours without a class
IGNORED = 255
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # of Pillow
MASKS_LOOKED_AT = 8  # for colours that no table names
COLOURS_LISTED = 12


@dataclass
class Pair:
    """An image, its mask, and the image's name below the new image folder."""

    path: Path
    mask: Path
    name: str


@dataclass
class ColourMasks:
    """Images and masks by split, and the table.

    Attributes:
        table: name of each colour ``(r, g, b)``.
        splits: images and masks of each split.
        findings: what was odd, left out or changed.
    """

    table: dict[tuple[int, int, int], str]
    splits: dict[str, list[Pair]]
    findings: Findings = field(default_factory=Findings)

    @property
    def classes(self) -> list[str]:
        """Class names in the order of their numbers, the table's."""
        return list(dict.fromkeys(name for name in self.table.values() if not is_none(name)))


def is_none(name: str) -> bool:
    """Return True for the name of a colour without a class."""
    return name.casefold() in NONE


def find_pairs(root: Path, findings: Findings) -> dict[str, list[Pair]]:
    """Images and masks of one name and one split, the masks in a folder that is named so.

    Where a name is there several times, a mask is that of the image whose folders are called as its
    own, without those of splits, layouts and masks: ``images/left/1.jpg``, ``masks/left/1.png``.
    """
    images: dict[tuple[str, str], list[Path]] = {}
    masks: dict[tuple[str, str], list[Path]] = {}
    for path in walk(root, IMAGE_SUFFIXES):
        relative = path.relative_to(root)
        split = split_of(relative.parent)
        marked = [part for part in relative.parts[:-1] if MASK_FOLDER.fullmatch(part)]
        for part in marked:
            word = re.split('[_-]', part)[0]
            split = split_of(Path(word, 'x')) if split == 'train' else split
        if 'SegmentationObject' in relative.parts:
            continue
        if marked:
            masks.setdefault((split, MASK_ENDING.sub('', path.stem)), []).append(path)
        else:
            images.setdefault((split, path.stem), []).append(path)
    listed = Lists(root, ('ImageSets/Segmentation',), findings)
    splits: dict = {}
    for key, paths in images.items():
        of_image = _match(root, paths, masks.get(key, []))
        for image in paths:
            relative = image.relative_to(root)
            if image not in of_image:
                findings.warning('images without a mask, left out', relative)
                continue
            where = listed.splits_of(image) if listed else [key[0]]
            if not where:
                findings.warning('images in none of the lists, left out', relative)
            for split in where:
                pair = Pair(image, of_image[image], new_name(relative))
                splits.setdefault(split, []).append(pair)
        masks[key] = [mask for mask in masks.get(key, []) if mask not in of_image.values()]
    for mask in sorted(mask for paths in masks.values() for mask in paths):
        findings.warning('masks without an image, left out', mask.relative_to(root))
    return splits


def _match(root: Path, images: Sequence[Path], masks: Sequence[Path]) -> dict[Path, Path]:
    """Return the mask of each image, of images and masks that have one name and one split."""
    by_folder: dict[tuple[str, ...], Path] = {}
    for mask in masks:
        by_folder.setdefault(_folders(root, mask), mask)
    found: dict[Path, Path] = {}
    for image in images:
        own = _folders(root, image)
        # The folder of all images may have any name, as in photos/left/1.jpg.
        mask = by_folder.get(own) or by_folder.get(own[1:] or own)
        if mask is not None and mask not in found.values():
            found[image] = mask
    if len(images) == 1 and masks:
        found.setdefault(images[0], masks[0])
    return found


def _folders(root: Path, path: Path) -> tuple[str, ...]:
    """The folders of a file below the root, without those that only a layout has."""
    return tuple(
        part
        for part in path.relative_to(root).parts[:-1]
        if part not in LAYOUT_FOLDERS
        and not SPLIT_FOLDER.fullmatch(part)
        and not MASK_FOLDER.fullmatch(part)
    )


def read_table(path: Path) -> dict[tuple[int, int, int], str]:
    """A table of colours, a line for each: a name and three numbers in any order.

    ``road 128 64 128``, ``128 64 128 road``, ``road:128,64,128::`` (CVAT) and ``road,128,64,128``
    are read; lines without three numbers (a title, a comment) are not.

    Raises:
        DataError: no line is a colour, or one is named twice.
    """
    table: dict[tuple[int, int, int], str] = {}
    for line in read_text(path).lstrip('\ufeff').splitlines():
        if line.lstrip().startswith('#'):
            continue
        match = re.search(r'(?<!\w)(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})(?!\w)', line)
        if match is None or max(map(int, match.groups())) > 255:
            continue
        name = (line[: match.start()] + ' ' + line[match.end() :]).strip(' \t,;:')
        red, green, blue = map(int, match.groups())
        colour = (red, green, blue)
        if not name or table.get(colour, name) != name:
            raise DataError(f'{path}: colour {colour} has no name or two; write NAME R G B')
        table[colour] = name
    if not table:
        raise DataError(f'{path} names no colours; write a line for each: NAME R G B')
    return table


def read(root: Path, table: Path | None = None) -> ColourMasks:
    """The masks of a folder.

    Args:
        root: the folder.
        table: file of colours; None: one of the folder, as CVAT and CamVid have it.

    Raises:
        DataError: there is no table (the message lists the colours of the masks), or no masks.
    """
    findings = Findings()
    splits = find_pairs(root, findings)
    if not splits:
        raise DataError(
            f'no images with masks in {root}: expected masks in a folder called masks, labels, '
            'annotations or alike, each with the name of its image'
        )
    if table is None:
        table = next((root / name for name in TABLES if (root / name).is_file()), None)
    if table is None:
        counts: Counter = Counter()
        for pair in next(iter(splits.values()))[:MASKS_LOOKED_AT]:
            codes, numbers = np.unique(_pixels(pair.mask), return_counts=True)
            counts.update(dict(zip(codes.tolist(), numbers.tolist(), strict=True)))
        most = [code for code, _ in counts.most_common()]
        listed = '; '.join(
            '{} {} {}'.format(*_split_colour(code)) for code in most[:COLOURS_LISTED]
        )
        raise DataError(
            f'the colours of the masks in {root} have no names. Write a file with a line for each, '
            f'NAME R G B, and give it with --colours FILE. The first masks hold {listed}'
            + (f' and {len(most) - COLOURS_LISTED} more' if len(most) > COLOURS_LISTED else '')
        )
    return ColourMasks(read_table(table), splits, findings)


def to_numbers(path: Path, masks: ColourMasks) -> np.ndarray:
    """The class numbers (H, W) of a mask; 255 where the colour has no class or no name.

    Raises:
        DataError: the file cannot be read.
    """
    pixels = _pixels(path)
    codes, inverse = np.unique(pixels, return_inverse=True)
    classes = masks.classes
    numbers = np.full(len(codes), IGNORED, np.uint8)
    unknown = []
    for i, code in enumerate(codes.tolist()):
        name = masks.table.get(_split_colour(code))
        if name is None:
            unknown.append('{} {} {}'.format(*_split_colour(code)))
        elif not is_none(name):
            numbers[i] = classes.index(name)
    if unknown:
        masks.findings.warning(
            'masks with colours that the table does not name, which become 255',
            f'{path} ({len(unknown)}: {", ".join(unknown[:3])})',
        )
    return numbers[inverse].reshape(pixels.shape)


def is_colour_mask(path: Path) -> bool:
    """Return True if a mask can be read and has three channels that are not one thrice."""
    try:
        with Image.open(path) as image:
            if image.mode not in ('RGB', 'RGBA'):
                return False
            pixels = np.asarray(image.convert('RGB'))
    except UNREADABLE:
        return False
    return bool((pixels != pixels[..., :1]).any())


def _pixels(path):
    """Colours as one number each, (H, W)."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert('RGB')).astype(np.int32)
    except UNREADABLE as error:
        raise DataError(f'mask {path} cannot be read: {error}') from error
    return (pixels[..., 0] << 16) + (pixels[..., 1] << 8) + pixels[..., 2]


def _split_colour(code):
    return (code >> 16, code >> 8 & 255, code & 255)
