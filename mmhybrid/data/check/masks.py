"""Checks of images with masks."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from ..depth import headers_of, report_depth
from ..findings import Findings, Reading, Split, by, inside, note_image, try_to_read
from ..fit import check_mask_values
from ..listing import is_image, walk
from .lists import read_list

AS_NUMBERS = (
    'write the numbers of the classes, as "mmhybrid data convert --format colours" does '
    '(docs/formats.md)'
)


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
            (stem, inside(images, stem + (suffixes[0] or ''))) for stem in
            read_list(list_file, split.findings)
        ]  # fmt: skip
    else:
        paths = sorted(
            path for path in walk(images)
            if (is_image(path) if suffixes[0] is None
                else path.name.endswith(suffixes[0]))
        )  # fmt: skip
        report_other_suffixes(split.findings, images, masks, suffixes)
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
        for mask in walk(masks, [suffixes[1].lower()]):
            if mask not in used:
                split.findings.warning('masks without an image', mask)
    report_depth(split.findings, headers_of([path for path, _ in pairs]))
    first = int(reduce_zero_label)
    labels = {first + i: label for i, label in enumerate(classes or ())}
    split.counts.update(dict.fromkeys(labels.values(), 0))

    occurring: set[int] = set()

    def read(pair):
        return try_to_read(pair[0]), try_to_read(pair[1], whole=True)

    for (path, mask), (image, class_map) in (reading or Reading()).each(split, pairs, read):
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
        if good:
            report_sizes(split.findings, path, mask, image['size'], size)
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
        occurring.update(values)
        used = [v for v in values if v != ignore_index and not (reduce_zero_label and v == 0)]
        if not used:
            split.findings.warning('masks without any class', mask)
        for value in used:
            label = labels.get(value) if classes is not None else f'value {value}'
            if label is not None:
                split.counts[label] += int(histogram[value])
                split.in_images[label] += 1
    if split.sampled is None:
        report_values(
            split.findings,
            occurring,
            classes,
            ignore_index,
            reduce_zero_label,
            evaluated=name != 'train',
        )
    return split


def report_values(
    findings: Findings,
    values: Collection[int],
    classes: Sequence[str] | None,
    ignore_index: int = 255,
    reduce_zero_label: bool = False,
    *,
    evaluated: bool = False,
) -> None:
    """Add an error if the masks of a split hold one class of several, or none.

    Where they are evaluated it is a warning: a few images may show one class.

    Args:
        findings: where it is added.
        values: all that the masks hold.
        classes, ignore_index, reduce_zero_label: as in the config; without classes the values 0
            and 255 alone are what is looked for.
    """
    if classes is None:
        if set(values) == {0, 255}:
            findings.error(
                f'the masks hold 0 and 255 alone, and 255 stands for "none": {AS_NUMBERS}'
            )
        return
    first = int(reduce_zero_label)
    found = [name for i, name in enumerate(classes, first) if i in values and i != ignore_index]
    if len(found) > 1 or len(classes) < 2:
        return
    missing = [name for name in classes if name not in found]
    text = f'of {len(classes)} classes the masks hold {found[0] if found else "none"} alone'
    if ignore_index in values and len(missing) == 1:
        text += (
            f': {ignore_index} stands for "none" (ignore_index), {missing[0]} never occurs and is '
            f'probably {ignore_index}; {AS_NUMBERS}'
        )
    elif ignore_index in values:
        text += f'; {ignore_index} stands for "none" (ignore_index)'
    if reduce_zero_label and 0 in values:
        text += '; 0 stands for "none" by reduce_zero_label=True, which is for classes from 1 on'
    if evaluated:
        findings.warning(text)
    else:
        findings.error(text)


def report_sizes(findings: Findings, path: Path, mask: Path, size: tuple, of_mask: tuple) -> None:
    """Add an error if a mask is of another size than its image, as the hosts turn it."""
    if size == of_mask:
        return
    what = 'masks of another size than their image'
    if size == of_mask[::-1]:
        what += (
            '; photographs are turned by their EXIF entry, masks are not: turn either, and save '
            'the photograph without the entry'
        )
    findings.error(what, f'{mask} has {by(of_mask)}, the image {by(size)}')


def report_other_suffixes(
    findings: Findings, images: Path, masks: Path, suffixes: tuple[str | None, str]
) -> None:
    """Add the images of a folder that are not used as they end otherwise."""
    wanted, of_masks = suffixes
    if wanted is None:
        return
    both = images.resolve() == masks.resolve()
    for path in walk(images):
        if (
            is_image(path) and not path.name.endswith(wanted)
            and not (both and path.name.endswith(of_masks))
        ):  # fmt: skip
            findings.warning(f'images that do not end in {wanted}, which are not used', path)
