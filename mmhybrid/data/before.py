"""A look at data before the first step of a training or an evaluation.

What would train on nothing, or on something else than was annotated, is refused or said. Images are
read by their headers. ``tools/check_data.py`` reads everything, with the same functions.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from .check.classes import class_files, report_skipped
from .check.masks import report_other_suffixes
from .check.objects import count_objects, report_objects, report_scale
from .check.voc import count_voc
from .coco import DataError, read_text
from .findings import Findings


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
    try:
        content = json.loads(read_text(annotations))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f'{annotations} is no complete JSON file: {error}') from error
    if isinstance(content, dict):
        found = count_objects(content, classes, masks=masks, evaluated=evaluated, min_size=min_size)
        report_objects(findings, found, evaluated=evaluated)
        report_scale(findings, content, classes)
    return findings


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
    return findings


def look_at_masks(images: Path, masks: Path, suffixes: tuple[str, str]) -> Findings:
    """Look at images with masks; the arguments are those of ``check_masks``."""
    findings = Findings()
    report_other_suffixes(findings, images, masks, suffixes)
    return findings


def look_at_classes(root: Path, extensions: Sequence[str]) -> Findings:
    """Look at a folder a class; the arguments are those of ``check_classes``."""
    findings = Findings()
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    taken, others = class_files(folders, extensions)
    report_skipped(findings, taken, others, extensions)
    return findings
