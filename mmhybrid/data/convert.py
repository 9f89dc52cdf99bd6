"""Other formats of annotations, written in the layouts that train here."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..files import write_atomically
from .coco import DataError
from .findings import Findings
from .formats import READERS, TITLES, annotated_as, colours, find_format
from .formats.records import SPLITS, Contents
from .listing import CLASS_FILE
from .split import choose_val


@dataclass
class Conversion:
    """A folder that was written.

    Attributes:
        source, out: the format, and the new folder.
        images: of each split.
        counts: by split, objects of each class; images with the class in masks.
        outlines, objects: how many objects have an outline, and how many there are; 0 in masks.
        findings: odd files, and what was left out or changed.
    """

    source: str
    out: Path
    images: dict[str, int] = field(default_factory=dict)
    counts: dict[str, Counter] = field(default_factory=dict)
    outlines: int = 0
    objects: int = 0
    findings: Findings = field(default_factory=Findings)


def convert(
    folder: str | Path,
    out: str | Path,
    source: str | None = None,
    classes: Sequence[str] | None = None,
    colour_table: str | Path | None = None,
    val_fraction: float | None = None,
    seed: int = 0,
) -> Conversion:
    """Write a folder of another format as ``docs/data.md`` lays it out.

    The source stays as it is. The new folder is written beside its place, and put there when it is
    complete.

    Args:
        folder: what is read.
        out: what is made; it must not be there, or be empty.
        source: a key of ``READERS``; None: told by what the folder holds.
        classes: the classes that are kept; the names of a YOLO folder that has none.
        colour_table: for masks of colours, a file of lines ``NAME R G B``.
        val_fraction: the part of the training images that validate, by image.
        seed: of that choice.

    Raises:
        DataError: the format is not known, something that it needs is missing, or nothing is left.
        FileExistsError: ``out`` is there.
    """
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise DataError(f'folder not found: {folder}')
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f'{out} is there already: give a folder that is new')
    if folder.resolve() in (out.resolve(), *out.resolve().parents):
        raise DataError(f'{out} lies in {folder}, which is read: give a folder beside it')
    told = source is None and colour_table is None
    source = source or ('colours' if colour_table else find_format(folder))
    if source is None:
        held = ', '.join(sorted(path.name for path in folder.iterdir())[:8])
        raise DataError(
            f'{folder} holds {held or "nothing"}: no YOLO, Pascal VOC, labelme or COCO files, and '
            f'no masks of colours; name the format with --format {"|".join(READERS)}'
        )
    if source == 'colours':
        if classes:
            raise DataError('--classes: masks of colours have their classes from --colours FILE')
        contents = colours.read(folder, None if colour_table is None else Path(colour_table))
    else:
        if colour_table:
            raise DataError(f'--colours {colour_table}: {TITLES[source]} has no colours')
        contents = READERS[source](folder, list(classes) if classes else None)
    if told and source != 'colours':
        for other in annotated_as(folder)[1:]:
            contents.findings.warning(
                f'{folder} holds {TITLES[other]} too, which is not read: --format {other}, or give '
                'the folder of one'
            )
    result = Conversion(TITLES[source], out, findings=contents.findings)
    splits = {key: contents.splits[key] for key in SPLITS if contents.splits.get(key)}
    if not splits or not contents.classes:
        raise DataError(
            f'nothing to convert in {folder} ({result.source}): no images with known classes'
            + ''.join(f'\n  {line}' for line in contents.findings.lines())
        )
    if isinstance(contents, Contents):
        _settle_lost(splits, contents.findings)
    if val_fraction is not None:
        splits = _with_val(splits, val_fraction, seed, folder)
    with write_atomically(out) as draft:
        draft.mkdir()
        if isinstance(contents, Contents):
            _write_objects(draft, contents.classes, splits, result)
        else:
            _write_masks(draft, contents, splits, result)
    return result


def _settle_lost(splits, findings):
    """Keep the boxes of bad outlines where no object has a good one: masks are not trained on."""
    pictures = [picture for pictures in splits.values() for picture in pictures]
    lost = sum(one.lost for picture in pictures for one in picture.instances)
    if not lost:
        return
    if not any(one.outline for picture in pictures for one in picture.instances):
        findings.warning(f'{lost} objects have no good outline, and no other has: boxes are kept')
        return
    findings.warning(f'{lost} objects have no good outline, and others have: left out')
    for picture in pictures:
        picture.instances = [one for one in picture.instances if not one.lost]


def _with_val(splits, fraction, seed, folder):
    if 'val' in splits:
        raise DataError(
            f'--val-fraction {fraction}: the folder has a validation part already '
            f'({len(splits["val"])} images); leave the option out'
        )
    items = splits.get('train', ())
    times = Counter(item.name for item in items)
    # Folders of several cameras have images of one name.
    names = [item.name if times[item.name] == 1 else _relative(item.path, folder) for item in items]
    try:
        chosen = choose_val(list(dict.fromkeys(names)), fraction, seed)
    except ValueError as error:
        raise DataError(f'--val-fraction {error}') from error
    rest = {split: kept for split, kept in splits.items() if split != 'train'}
    return dict(
        train=[item for name, item in zip(names, items, strict=True) if name not in chosen],
        val=[item for name, item in zip(names, items, strict=True) if name in chosen],
        **rest,
    )


def _relative(path, folder):
    path, folder = path.absolute(), folder.absolute()
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _copy(path, folder, name, taken):
    """Copy an image; return its name below the folder, which no other has."""
    name, count = Path(name), 1
    suffix = {'.jpeg': '.jpg'}.get(name.suffix.lower(), name.suffix.lower())
    stem = name.with_suffix('').as_posix()
    free = stem
    while free.lower() in taken:
        count += 1
        free = f'{stem}_{count}'
    taken.add(free.lower())
    target = folder / (free + suffix)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
    return free + suffix


def _write_objects(draft, classes, splits, result):
    number = 0
    categories = [dict(id=i, name=name) for i, name in enumerate(classes, 1)]
    (draft / 'annotations').mkdir()
    for split, pictures in splits.items():
        images: list[dict] = []
        annotations: list[dict] = []
        taken: set[str] = set()
        result.images[split] = len(pictures)
        counts = result.counts[split] = Counter(dict.fromkeys(classes, 0))
        for image_id, picture in enumerate(pictures, 1):
            name = _copy(picture.path, draft / 'images' / split, picture.name, taken)
            width, height = picture.size
            images.append(dict(id=image_id, file_name=name, width=width, height=height))
            for instance in picture.instances:
                number += 1
                counts[instance.label] += 1
                result.outlines += instance.outline is not None
                row = dict(
                    id=number, image_id=image_id, category_id=classes.index(instance.label) + 1,
                    bbox=instance.box, area=instance.area, iscrowd=instance.crowd,
                )  # fmt: skip
                if instance.outline is not None:
                    row['segmentation'] = instance.outline
                if instance.ignore:
                    row['ignore'] = 1
                annotations.append(row)
        content = dict(images=images, categories=categories, annotations=annotations)
        (draft / 'annotations' / f'instances_{split}.json').write_text(
            json.dumps(content), encoding='utf-8'
        )
    result.objects = number
    if not number:
        raise DataError(
            f'no objects left of {sum(result.images.values())} images'
            + ''.join(f'\n  {line}' for line in result.findings.lines())
        )


def _write_masks(draft, masks, splits, result):
    import numpy as np
    from PIL import Image

    classes = masks.classes
    for split, items in splits.items():
        counts = result.counts[split] = Counter(dict.fromkeys(classes, 0))
        result.images[split] = 0
        taken: set[str] = set()
        for pair in items:
            try:
                numbers = colours.to_numbers(pair.mask, masks)
            except DataError as error:
                masks.findings.error('masks that cannot be read, left out', str(error))
                continue
            name = _copy(pair.path, draft / 'images' / split, pair.name, taken)
            target = (draft / 'annotations' / split / name).with_suffix('.png')
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(numbers).save(target)
            result.images[split] += 1
            for value in np.unique(numbers).tolist():
                if value < len(classes):
                    counts[classes[value]] += 1
    (draft / CLASS_FILE).write_text('\n'.join(classes) + '\n', encoding='utf-8')
