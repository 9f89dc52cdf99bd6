"""Checks of images that have a class each."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..coco import DataError, read_text
from ..depth import headers_of, report_depth
from ..findings import Findings, Reading, Split, inside, note_image, shown, try_to_read
from ..listing import IMAGE_SUFFIXES, folder_names, is_image, walk


def check_classes(
    name: str,
    root: Path,
    num_classes: int | None = None,
    reading: Reading | None = None,
    extensions: Sequence[str] = IMAGE_SUFFIXES,
    names: Sequence[str] | None = None,
) -> Split:
    """Images in one folder a class.

    Args:
        name: of the split.
        root: the folder of the classes' folders.
        num_classes: how many folders there must be; any number if None.
        reading: how images are read.
        extensions: those that the data set takes.
        names: of the folders, as the config has them.
    """
    split = Split(name, f'a folder a class in {root}', 'images')
    if not root.is_dir():
        split.findings.error(f'folder not found: {root}')
        return split
    folders = [root / name for name in folder_names(root)]
    report_names(split.findings, root, names)
    if num_classes not in (None, len(folders)):
        split.findings.error(f'{len(folders)} folders in {root}: expected {num_classes}')
    if not folders:
        split.findings.error(f'no folders in {root}: expected one for each class')
    files, skipped = class_files(folders, extensions)
    split.counts.update(dict.fromkeys((folder.name for folder in folders), 0))
    split.counts.update(path.relative_to(root).parts[0] for path in files)
    report_skipped(split.findings, files, skipped, extensions)
    split.left_out = sum(map(is_image, skipped))
    return _read_classified(split, root, files, reading)


def report_names(findings: Findings, root: Path, names: Sequence[str] | None) -> None:
    """Add an error if folders of classes, numbered in their order, are not those of the config.

    Folders that are called 0, 1, 2, ... may have any names in the config.
    """
    found = folder_names(root)
    numbers = sorted(map(str, range(len(found))))
    if names is None or list(names) == found or (found == numbers and len(names) == len(found)):
        return
    findings.error(
        f'the folders in {root} are not the classes of the config\n'
        f'  config:  {", ".join(names)}\n  folders: {", ".join(found)}'
    )


def class_files(
    folders: Sequence[Path], extensions: Sequence[str]
) -> tuple[list[Path], list[Path]]:
    """The files below folders that end as ``extensions`` say, and the others."""
    taken: list[Path] = []
    others: list[Path] = []
    for folder in folders:
        for path in walk(folder):
            (taken if path.name.lower().endswith(tuple(extensions)) else others).append(path)
    return taken, others


def report_skipped(
    findings: Findings, taken: Sequence[Path], others: Sequence[Path], extensions: Sequence[str]
) -> None:
    """Add images of kinds that the data set does not take, and files that are no images."""
    listed = ' '.join(extensions)
    images = [path for path in others if is_image(path)]
    if images and not taken:
        findings.error(
            f'none of {len(images)} images ends as the data set wants: {listed}', images[0]
        )
    elif images:
        findings.warning(
            f'{len(images)} of {len(images) + len(taken)} images are not used, as they do not end '
            f'as the data set wants: {listed}', images[0]
        )  # fmt: skip
    for path in others:
        if not is_image(path):
            findings.warning('files that are no images', path)


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
    report_depth(split.findings, headers_of(files))
    for path, found in (reading or Reading()).each(split, files, try_to_read):
        note_image(split, path, found)
    return split
