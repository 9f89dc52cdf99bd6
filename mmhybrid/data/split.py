"""A folder without a validation part, split by image."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..files import write_file
from .coco import DataError, read_text

FOLDER = 'split'  # of the work dir
LIST = 'images.json'  # in it: what was chosen, and with which options


def choose_val(names: Sequence[str], fraction: float, seed: int = 0) -> set[str]:
    """The names that validate: ``fraction`` of them, at least one, and not all.

    The choice follows from each name and the seed: the order of the names has no part in it, and
    an image that is added changes the place of few others.

    Raises:
        ValueError: the fraction is not between 0 and 1, or there are fewer than two names.
    """
    if isinstance(fraction, bool) or not isinstance(fraction, float) or not 0 < fraction < 1:
        raise ValueError(f'{fraction}: expected a number between 0 and 1, as 0.2')
    if len(names) < 2:
        raise ValueError(f'{fraction}: {len(names)} images cannot be split in two')
    ranked = sorted(names, key=lambda name: hashlib.sha256(f'{seed} {name}'.encode()).digest())
    return set(ranked[: min(len(names) - 1, max(1, round(fraction * len(names))))])


def saved_choice(names: Sequence[str], fraction: float, seed: int, work_dir: Path) -> set[str]:
    """The names that validate, as the work dir has them saved; else chosen and saved there.

    A training that goes on validates on the images that it validated on before. Images that are
    new since then are trained on.

    Raises:
        DataError: the options are wrong, or the work dir holds a split with other options.
    """
    path = work_dir / FOLDER / LIST
    if path.is_file():
        try:
            saved = json.loads(read_text(path))
            options, chosen = (saved['val_fraction'], saved['val_seed']), set(saved['val'])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f'{path} is not as it was written: remove it, or restore it') from error
        if options != (fraction, seed):
            raise DataError(
                f'val_fraction={fraction} val_seed={seed}, but {path} was made with {options[0]} '
                f'and {options[1]}: give these, or another --work-dir'
            )
        chosen &= set(names)
        if chosen and len(chosen) < len(names):
            return chosen
        raise DataError(f'{path} lists none of the images that are there: give another --work-dir')
    try:
        chosen = choose_val(names, fraction, seed)
    except ValueError as error:
        raise DataError(f'val_fraction={error}') from error
    write_file(
        path, json.dumps(dict(val_fraction=fraction, val_seed=seed, val=sorted(chosen)), indent=1)
    )
    if int(os.environ.get('RANK', 0)) == 0:
        print(
            f'val_fraction={fraction}: {len(chosen)} of {len(names)} images validate and are not '
            f'trained on; {path} lists them'
        )
    return chosen


def split_coco(annotations: Path, fraction: float, seed: int, work_dir: Path) -> dict[str, Path]:
    """Two annotation files in the work dir, of the images of one.

    Raises:
        DataError: the file cannot be read, or the options are wrong.
    """
    try:
        content = json.loads(read_text(annotations))
        images = {row['id']: row['file_name'] for row in content['images']}
        rows = [(row['image_id'], row) for row in content['annotations']]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f'{annotations} is no COCO file: mmhybrid check says what is missing'
        ) from error
    chosen = saved_choice(list(images.values()), fraction, seed, work_dir)
    paths = {}
    for split in ('train', 'val'):
        ids = {id_ for id_, name in images.items() if (name in chosen) == (split == 'val')}
        paths[split] = work_dir / FOLDER / f'instances_{split}.json'
        part = dict(
            content,
            images=[row for row in content['images'] if row['id'] in ids],
            annotations=[row for id_, row in rows if id_ in ids],
        )
        write_file(paths[split], json.dumps(part))
    return paths


def split_list(
    lines: dict[str, str], fraction: float, seed: int, work_dir: Path
) -> dict[str, Path]:
    """Two lists of images in the work dir; ``lines`` has the line of each name.

    Raises:
        DataError: the options are wrong.
    """
    chosen = saved_choice(list(lines), fraction, seed, work_dir)
    paths = {}
    for split in ('train', 'val'):
        paths[split] = work_dir / FOLDER / f'{split}.txt'
        part = [line for name, line in lines.items() if (name in chosen) == (split == 'val')]
        write_file(paths[split], ''.join(f'{line}\n' for line in part))
    return paths
