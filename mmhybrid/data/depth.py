"""Images of more than 8 bits a value: how the hosts read them, and copies of 8 bits."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .coco import DataError
from .findings import Findings
from .formats.colours import MASK_FOLDER
from .header import Header, read_header
from .listing import IMAGE_SUFFIXES, walk

TRIED = 8  # images that are decoded to see how they are read
DARK = 64  # of 255: what is read as less than this has lost most of its values


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
            values += [np.nanmin(whole), np.nanmax(whole)]
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
    """

    images: int
    others: int
    limits: tuple[float, float]


def write_8bit(root: Path, out: Path, limits: tuple[float, float] | None = None) -> Copies:
    """Copy a folder, with images of 8 bits in the place of those that have more.

    Masks, in a folder that is named so, and all other files are copied as they are. Names stay, so
    annotations fit the copies.

    Args:
        root: the folder.
        out: a new one.
        limits: values that become 0 and 255; None: the least and the largest of all images.

    Raises:
        DataError: ``out`` is there, or no image has more than 8 bits, or one cannot be read.
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
    deep = [path for path, header in headers_of(images).items() if header.bits > 8]
    if not deep:
        raise DataError(f'no image in {root} has more than 8 bits: it can be used as it is')
    if limits is None:
        ends = [(np.nanmin(pixels), np.nanmax(pixels)) for pixels in map(_whole, deep)]
        limits = float(min(low for low, _ in ends)), float(max(high for _, high in ends))
    low, high = limits
    if not low < high:
        raise DataError(f'values from {low:g} to {high:g}: expected two that differ, least first')
    for path in files:
        target = out / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path not in deep:
            shutil.copy2(path, target)
            continue
        scaled = np.nan_to_num((_whole(path).astype(np.float64) - low) / (high - low))
        pixels = np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
        target.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return Copies(len(deep), len(files) - len(deep), limits)


def _whole(path):
    import cv2

    pixels = _read(path, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise DataError(f'{path} cannot be read by OpenCV: write it as PNG or TIFF')
    return pixels
