"""Images of more than 8 bits a value: how the hosts read them, and copies of 8 bits."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import write_atomically
from .coco import DataError
from .findings import Findings
from .formats.colours import MASK_ENDING
from .formats.records import MASK_FOLDER
from .header import Header, read_header
from .listing import IMAGE_SUFFIXES, walk

TRIED = 8  # images that are decoded to see how they are read
DARK = 64  # of 255: what is read as less than this has lost most of its values
IMAGE_FOLDER = re.compile(r'(.*[_-])?(images?|imgs?|JPEGImages|photos?)', re.IGNORECASE)
FEW = 256  # values in a map of classes or of objects; a photograph of 16 bits holds thousands
FLAT = 0.75  # of the neighbours in such a map are equal; noise alone makes fewer so in a photograph


def report_depth(findings: Findings, headers: dict[Path, Header]) -> None:
    """Add what becomes of images with more than 8 bits a value.

    It is an error if they cannot be read, or if nearly nothing is left of them: the hosts read 8
    bits, by OpenCV, which drops the lower bits and makes some kinds 0.
    """
    import cv2

    deep = {path: header for path, header in headers.items() if header.bits > 8}
    if not deep:
        return
    kind = next(iter(deep.values())).kind
    paths = list(deep)
    values, seen = [], []
    for path in [paths[len(paths) * i // TRIED] for i in range(TRIED)] if paths[TRIED:] else paths:
        whole, read = (_read(path, flag) for flag in (cv2.IMREAD_UNCHANGED, cv2.IMREAD_COLOR))
        if whole is not None:
            values += _ends(whole)
        seen.append(-1 if read is None else int(read.max()))
    text = f'{len(deep)} of {len(headers)} images have {kind} values'
    if values:
        text += f' of {min(values):g} to {max(values):g}'
    if min(seen) < 0:
        text += ', which the hosts cannot read'
    else:
        text += f', which are read as 0 to {max(seen)} of 255'
    text += ': write images of 8 bits with "mmhybrid data to8bit FOLDER OUT"'
    if min(seen) < 0 or max(seen) < DARK:
        findings.error(text, paths[0])
    else:
        findings.warning(text, paths[0])


def _read(path, flag):
    """An image by OpenCV, or None."""
    import cv2

    try:
        return cv2.imread(str(path), flag)
    except cv2.error:
        return None


def headers_of(paths: Sequence[Path]) -> dict[Path, Header]:
    """The headers of images that have one that can be read."""
    found = {}
    for path in paths:
        try:
            found[path] = read_header(path)
        except DataError:  # which reading the image tells
            continue
    return found


@dataclass
class Copies:
    """The copies of a folder.

    Attributes:
        images: how many were written anew.
        others: how many files were copied as they are.
        limits: the values that became 0 and 255.
        not_finite: how many values of each image are NaN, which became 0, or infinite, which were
            clipped; without the images that have none.
    """

    images: int
    others: int
    limits: tuple[float, float]
    not_finite: dict[Path, int]


def write_8bit(root: Path, out: Path, limits: tuple[float, float] | None = None) -> Copies:
    """Copy a folder, with images of 8 bits in the place of those that have more.

    Masks, in a folder that is named so, and all other files are copied as they are. Names stay, so
    annotations fit the copies. ``out`` is there when all is written, or not at all.

    Args:
        root: the folder.
        out: a new one.
        limits: values that become 0 and 255; None: the least and the largest finite value of all
            images.

    Raises:
        DataError: ``out`` is there, or no image has more than 8 bits, or one cannot be read, or,
            without ``limits``, looks like a mask in a folder that is named neither as masks nor as
            images are.
    """
    import cv2

    root, out = Path(root), Path(out)
    if not root.is_dir():
        raise DataError(f'folder not found: {root}')
    if out.exists():
        raise DataError(f'{out} is there: give a new folder, nothing is overwritten')
    if out.resolve().is_relative_to(root.resolve()):
        raise DataError(f'{out} lies in {root}: give a folder outside of it')
    files = walk(root)
    images = [
        path for path in files if path.name.lower().endswith(IMAGE_SUFFIXES)
        and not any(MASK_FOLDER.fullmatch(part) for part in path.relative_to(root).parts[:-1])
    ]  # fmt: skip
    deep = {path for path, header in headers_of(images).items() if header.bits > 8}
    if not deep:
        raise DataError(f'no image in {root} has more than 8 bits: it can be used as it is')
    low, high = _limits_of(root, sorted(deep)) if limits is None else limits
    if not low < high:
        raise DataError(f'values from {low:g} to {high:g}: expected two that differ, least first')
    made = Copies(len(deep), len(files) - len(deep), (low, high), {})
    with write_atomically(out) as draft:
        for path in files:
            target = draft / path.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path not in deep:
                shutil.copy2(path, target)
                continue
            pixels = _whole(path)
            if odd := int(pixels.size - np.isfinite(pixels).sum()):
                made.not_finite[path] = odd
            scaled = (pixels.astype(np.float64) - low) / (high - low)
            scaled = np.nan_to_num(scaled, nan=0, posinf=1, neginf=0).clip(0, 1)
            data = cv2.imencode(path.suffix, np.round(scaled * 255).astype(np.uint8))[1]
            target.write_bytes(data.tobytes())
    return made


def _limits_of(root, paths):
    """The least and the largest finite value of images; DataError where some look like masks."""
    ends, maps = [], []
    for path in paths:
        pixels = _whole(path)
        ends += _ends(pixels)
        parts = path.relative_to(root).parts[:-1]
        named = any(map(IMAGE_FOLDER.fullmatch, parts)) and not MASK_ENDING.search(path.stem)
        if not named and _looks_like_map(pixels):
            maps.append(path)
    if not ends:
        raise DataError(f'no finite value in {len(paths)} images of more than 8 bits in {root}')
    low, high = float(min(ends)), float(max(ends))
    if maps:
        folders = list(dict.fromkeys(str(path.parent) for path in maps))
        where = ', '.join(folders[:3]) + ', ...' * (len(folders) > 3)
        raise DataError(
            f'{len(maps)} of {len(paths)} images of more than 8 bits look like masks, whose '
            f'numbers would be changed: they hold few values, as {maps[0]} does ({where}). Put '
            f'masks in a folder called masks; if they are images: --range {low:g} {high:g}'
        )
    return low, high


def _looks_like_map(pixels):
    """Return True for areas of few whole numbers, which number classes or objects."""
    if pixels.dtype.kind == 'f' and not (np.isfinite(pixels) & (pixels == np.rint(pixels))).all():
        return False
    equal = [np.diff(pixels, axis=axis) == 0 for axis in (0, 1)]
    if any(same.size and same.mean() < FLAT for same in equal):
        return False
    return 1 < len(np.unique(pixels)) <= FEW  # one value alone is a black frame


def _ends(pixels):
    """The least and the largest finite value, or nothing if there are none."""
    finite = pixels[np.isfinite(pixels)]
    return [finite.min(), finite.max()] if finite.size else []


def _whole(path):
    import cv2

    pixels = _read(path, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DataError(f'{path} cannot be read by OpenCV: write it as PNG or TIFF')
    return pixels
