"""A look at data before the first step of a training or an evaluation.

A training refuses or names all that would teach it nothing, or something else than was annotated.
Images are read by their headers. ``tools/check_data.py`` reads everything, with the same functions.
"""

import contextlib
import gc
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .check.classes import class_files, report_names, report_skipped
from .check.lists import read_list
from .check.masks import report_other_suffixes, report_sizes, report_values
from .check.objects import count_objects, report_objects, report_scale
from .check.outlines import report_outlines
from .check.voc import count_voc
from .coco import DataError, read_json_text
from .depth import headers_of, report_depth
from .findings import Findings, by, inside
from .fit import PEEK, read_mask, some
from .listing import folder_names, walk

HEADERS = 2000  # of a split that are read before a training


def look_at_coco(
    annotations: Path,
    root: Path,
    classes: Sequence[str] | None,
    *,
    masks: bool = False,
    evaluated: bool = False,
    min_size: int = 0,
) -> Findings:
    """Look at a COCO file; the arguments are those of ``check_coco``.

    Raises:
        DataError: it is no complete JSON file.
    """
    findings = Findings()
    collects = gc.isenabled()
    gc.disable()  # it would walk through millions of numbers, none of them garbage
    try:
        content = json.loads(read_json_text(annotations))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f'{annotations} is no complete JSON file: {error}') from error
    finally:
        if collects:
            gc.enable()
    if isinstance(content, dict):
        _look_at_images(findings, content, root)
        found = count_objects(content, classes, masks=masks, evaluated=evaluated, min_size=min_size)
        report_objects(findings, found, evaluated=evaluated)
        report_scale(findings, content, classes)
        report_outlines(findings, content, classes, masks=masks)
    return findings


def _look_at_images(findings, content, root):
    """Depth of the images of a COCO file, and their size beside that which is annotated."""
    rows = content.get('images')
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    rows = some(rows, HEADERS)
    rows = {path: row for row in rows if (path := inside(root, row.get('file_name')))}
    headers = headers_of(list(rows))
    report_depth(findings, headers)
    for path, header in headers.items():
        size = rows[path].get('width'), rows[path].get('height')
        if header.shown_size != size and None not in size:
            findings.warning(
                'images of another size than annotated',
                f'{path} has {by(header.shown_size)}, annotated {by(size)}',
            )


def look_at_voc(
    root: Path,
    list_file: Path,
    classes: Sequence[str],
    *,
    evaluated: bool = False,
    min_box: int = 0,
) -> Findings:
    """Look at boxes as XML; the arguments are those of ``check_voc``."""
    findings = Findings()
    found = count_voc(root, list_file, classes, evaluated=evaluated, min_box=min_box)
    report_objects(findings, found, evaluated=evaluated)
    names = read_list(list_file, Findings())
    paths = [path for name in names if (path := inside(root / 'JPEGImages', f'{name}.jpg'))]
    report_depth(findings, headers_of(some(paths, HEADERS)))
    return findings


def look_at_masks(
    images: Path,
    masks: Path,
    classes: Sequence[str] | None,
    suffixes: tuple[str, str],
    ignore_index: int = 255,
    reduce_zero_label: bool = False,
    list_file: Path | None = None,
    *,
    evaluated: bool = False,
) -> Findings:
    """Look at images with masks; the arguments are those of ``check_masks``.

    All masks are read only where the first few hold less than two classes.
    """
    findings = Findings()
    if list_file is None:
        report_other_suffixes(findings, images, masks, suffixes)
        names = [
            path.relative_to(images).as_posix()[: -len(suffixes[0])]
            for path in walk(images) if path.name.endswith(suffixes[0])
        ]  # fmt: skip
    else:
        names = read_list(list_file, findings)
    pairs = [(images / (name + suffixes[0]), masks / (name + suffixes[1])) for name in names]
    looked_at = some(pairs, HEADERS)
    headers = headers_of([path for path, _ in looked_at])
    report_depth(findings, headers)
    of_masks = headers_of([mask for _, mask in looked_at])
    for path, mask in looked_at:
        if path in headers and mask in of_masks:
            report_sizes(findings, path, mask, headers[path].shown_size, of_masks[mask].size)
    first = int(reduce_zero_label)
    wanted = set(range(first, first + len(classes or ()))) - {ignore_index}
    values: set[int] = set()
    for _, mask in [*some(pairs, PEEK), *pairs]:
        if len(values & wanted) > 1:
            break
        with contextlib.suppress(DataError):
            values.update(np.unique(read_mask(mask)).tolist())
    if values and classes is not None:
        report_values(
            findings, values, classes, ignore_index, reduce_zero_label, evaluated=evaluated
        )
    return findings


def look_at_classes(
    root: Path, extensions: Sequence[str], names: Sequence[str] | None = None
) -> Findings:
    """Look at a folder a class; the arguments are those of ``check_classes``."""
    findings = Findings()
    folders = [root / name for name in folder_names(root)]
    report_names(findings, root, names)
    taken, others = class_files(folders, extensions)
    report_skipped(findings, taken, others, extensions)
    report_depth(findings, headers_of(some(taken, HEADERS)))
    return findings
