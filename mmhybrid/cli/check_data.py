"""Check a data folder before training, and print what is in it and what is wrong.

    mmhybrid check CONFIG [--cfg-options data_root=PATH ...]
    mmhybrid check FOLDER

With a config, its data sets are checked, with its class names. A folder is checked for what
docs/data.md describes: COCO files, images with masks, a folder a class. Every image is read, or
--sample N of each split. The exit code is 1 if there is an error, 0 if there are only warnings.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import argument_parser
from .config import load_config
from .datasets import Source, leaf_datasets, report_hidden
from .paths import find_config
from .usage import UsageError

if TYPE_CHECKING:
    from ..data.findings import Findings, Split

SPLITS = ('train', 'val', 'test')
CLASSES_SHOWN = 25


def main(argv: list[str] | None = None) -> int:
    """Print the report; return 1 if there is an error, else 0."""
    from ..data.check import check_balance, check_overlap
    from ..data.findings import Findings, Reading

    parser = argument_parser('Check a data folder before training.')
    parser.add_argument('--sample', type=int, metavar='N', help='read N images of each split only')
    args = parser.parse_args(argv)
    if args.sample is not None and args.sample < 1:
        parser.error(f'--sample {args.sample}: expected at least 1')
    target = find_config(args.config, 'config or folder', folders=True)
    problems = Findings()
    if target.is_dir():
        if args.cfg_options or args.data:
            given = '--data' if args.data else '--cfg-options'
            parser.error(f'{given}: a folder is checked without a config')
        checks = checks_of_folder(target, problems)
    else:
        checks = checks_of_config(args, problems)
    progress = Progress()
    reports = []
    for check in checks:
        report = check(Reading(args.sample, progress))
        progress.clear()
        check_balance(report, training=report.name == 'train')
        reports.append(report)
        print_split(report)
    findings = [problems, *(report.findings for report in reports)]
    for line in problems.lines():
        print(line)
    said: set = set()  # of boxes and masks of the same images
    for train, other in pairs(reports):
        overlap = check_overlap(train, other)
        overlap.forget(said)
        findings.append(overlap)
        if overlap.groups:
            print(f'{train.name} and {other.name}, {train.unit}')
            for line in overlap.lines():
                print(f'  {line}')
    errors, warnings = (sum(f.count(level) for f in findings) for level in ('error', 'warning'))
    print(f'{errors or "no"} error{"s" * (errors != 1)}, '
          f'{warnings or "no"} warning{"s" * (warnings != 1)}')  # fmt: skip
    return 1 if errors else 0


class Progress:
    """A line on a terminal that tells how many images were read."""

    def __init__(self):
        self.last = 0.0
        self.shown = False

    def __call__(self, name: str, done: int, total: int) -> None:
        if sys.stderr.isatty() and (time.monotonic() - self.last > 0.2 or done == total):
            self.last = time.monotonic()
            self.shown = True
            print(f'\r{name}: {done}/{total} images', end='', file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Remove the line."""
        if self.shown:
            print('\r' + ' ' * 60 + '\r', end='', file=sys.stderr, flush=True)
            self.shown = False


# ---------------------------------------------------------------------------- what to check


def checks_of_config(args: argparse.Namespace, problems: 'Findings') -> list[Callable]:
    """A check for each data set of a config; what cannot be fitted to its folder is a problem."""
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from ..data.coco import DataError

    try:
        cfg = load_config(args)
    except DataError as error:
        problems.error(str(error))
        root = (
            args.data
            or args.cfg_options.get('data_root')
            or Config.fromfile(find_config(args.config)).data_root
        )
        return checks_of_folder(Path(root), problems) if Path(root).is_dir() else []
    init_default_scope(cfg.default_scope)
    checks: list[Callable] = []
    for split in SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        if split == 'test' and loader == cfg.get('val_dataloader'):
            continue
        for dataset in leaf_datasets(loader['dataset'] if loader else None):
            if '://' in (dataset.get('data_root') or ''):
                raise UsageError(f'{dataset["data_root"]}: only folders of this machine are read')
            checks.append(check_of_dataset(split, dataset, cfg.default_scope))
    return checks


def check_of_dataset(split: str, dataset: Mapping, scope: str) -> Callable:
    """The check for a data set of a config, a function of a ``Reading``."""
    source = Source(dataset, scope)
    check = _check_of_source(split, source, scope)

    def run(reading):
        report = check(reading)
        report_hidden(report.findings, source)
        return report

    return run


def _check_of_source(split: str, source: Source, scope: str) -> Callable:
    from ..data import check

    listed, classes = source.listed, source.classes
    if source.kind.startswith('CIFAR'):
        raise UsageError(f'{source.kind} is checked when it is read: its files have known sums')
    if source.is_voc and listed is not None:
        return lambda reading: check.check_voc(
            split, source.voc_folder, listed, classes, reading,
            evaluated=split != 'train', min_box=source.filtered('bbox_min_size') or 0,
        )  # fmt: skip
    if scope == 'mmseg':
        images, masks = source.mask_folders
        return lambda reading: check.check_masks(
            split, images, masks, *source.mask_options, reading=reading
        )
    if scope == 'mmpretrain':
        folder, lists = source.class_folder
        if lists is not None:
            return lambda reading: check.check_class_list(split, folder, lists, classes, reading)
        extensions = source.option('extensions')
        return lambda reading: check.check_classes(
            split, folder, len(classes or ()) or None, reading, extensions, source.folder_names
        )
    if source.is_coco and listed is not None:
        lvis = source.kind.startswith('LVIS')
        folder = source.root / source.prefix.get('img', '')
        return lambda reading: check.check_coco(
            split, listed, folder,
            None if lvis else classes,  # whose classes go by number
            source.with_masks, reading, evaluated=split != 'train', lvis=lvis,
            min_size=source.filtered('min_size'),
        )  # fmt: skip
    raise UsageError(f'{source.kind} is no kind of data that can be checked')


def checks_of_folder(root: Path, problems: 'Findings') -> list[Callable]:
    """A check for each kind of data in a folder, as docs/data.md lays it out."""
    from ..data import check
    from ..data.coco import DataError
    from ..data.fit import read_class_file
    from ..data.formats import looks_like
    from ..data.listing import CLASS_FILE

    checks: list[Callable] = []
    for split in SPLITS:
        for file, images in (
            (f'annotations/instances_{split}.json', f'images/{split}'),
            (f'annotations/instances_{split}2017.json', f'{split}2017'),
        ):
            if (root / file).exists():
                checks.append(
                    lambda reading, split=split, file=root / file, images=root / images: (
                        check.check_coco(
                            split, file, images, reading=reading, evaluated=split != 'train'
                        )
                    )
                )
    classes = None
    try:
        classes = read_class_file(root) or None
    except DataError as error:
        problems.error(str(error))
    for split in SPLITS:
        images, masks = root / 'images' / split, root / 'annotations' / split
        if images.is_dir() and masks.is_dir():
            if classes is None and not problems.count('error'):  # which may have said so
                problems.warning(
                    f'no {CLASS_FILE} in {root} names the classes of the masks: a training wants '
                    'it, or --cfg-options classes=road,sky,...'
                )
            checks.append(
                lambda reading, split=split, images=images, masks=masks: check.check_masks(
                    split, images, masks, classes, reading=reading
                )
            )
        elif (root / split).is_dir() and any(path.is_dir() for path in (root / split).iterdir()):
            checks.append(
                lambda reading, split=split: check.check_classes(
                    split, root / split, reading=reading
                )
            )
    if not checks:
        held = ', '.join(sorted(path.name for path in root.iterdir())[:8])
        known = looks_like(root)
        if known:
            raise UsageError(known)
        raise UsageError(
            f'{root} holds {held or "nothing"}, which is none of the layouts of docs/data.md: '
            'expected annotations/instances_train.json, or images/train with annotations/train, or '
            'train with a folder for each class. Another layout is checked by a config that reads '
            'it: mmhybrid check CONFIG'
        )
    return checks


def pairs(reports: 'Sequence[Split]') -> 'Iterator[tuple[Split, Split]]':
    """Each training split with each other split of its kind."""
    for train in reports:
        for other in reports:
            if train.name == 'train' != other.name and train.unit == other.unit:
                yield train, other


# ---------------------------------------------------------------------------- the report


def print_split(split: 'Split') -> None:
    """Print sizes, classes and findings of a split."""
    from ..data.findings import shown

    print(f'{split.name}: {split.source}')
    total = sum(split.counts.values())
    text = f'{split.images} images'
    if split.sampled is not None:
        text += f', of which {split.sampled} were read'
    if split.unit != 'images':
        text += f', {total} {split.unit}'
    if split.left_out:
        text += f' ({split.left_out} more are not used)'
    if split.sizes:
        (size, count), *others = split.sizes.most_common()
        text += f', {size[0]}x{size[1]}'
        if others:
            widths, heights = zip(*split.sizes, strict=True)
            text += f' ({count} images; {min(widths)}x{min(heights)} to '
            text += f'{max(widths)}x{max(heights)})'
    print(f'  {text}')
    ranked = split.counts.most_common()
    if ranked:
        width = max(len(shown(label)) for label, _ in ranked[:CLASSES_SHOWN])
        print(f'  {"class":{width}}  {split.unit:>11}  {"share":>6}' + (
            '' if split.unit == 'images' else f'  {"images":>7}'))  # fmt: skip
    for label, count in ranked[:CLASSES_SHOWN]:
        line = f'  {shown(label):{width}}  {count:11}  {count / max(total, 1):6.1%}'
        print(line + ('' if split.unit == 'images' else f'  {split.in_images[label]:7}'))
    if len(ranked) > CLASSES_SHOWN:
        rest = ranked[CLASSES_SHOWN:]
        print(f'  and {len(rest)} classes more with {sum(c for _, c in rest)} {split.unit}')
    for line in split.findings.lines():
        print(f'  {line}')
