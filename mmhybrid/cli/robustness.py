"""Evaluate a trained model on disturbed images, and compare with the images as they are.

mmhybrid robustness WORK_DIR [--only NAME ...] [--metrics NAME ...] [--output FILE.md]
mmhybrid robustness CONFIG CHECKPOINT [--data DIR] [--cfg-options KEY=VALUE ...] ...

Data, pipeline and metrics are those of the config's test part. Sizes change the scales of the
pipeline, the other disturbances the images as they were loaded.
"""

import argparse
import copy
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..deploy.errors import ExportError
from ..files import write_file
from .arguments import argument_parser
from .datasets import leaf_datasets
from .test import evaluate_config, prepare
from .usage import UsageError, print_results, single_numbers

if TYPE_CHECKING:
    from mmengine.config import Config

NONE = 'none'
COLLAPSED = 0.1  # of the undisturbed metric: below it nothing useful is left
# Name: kind and strength; mmhybrid/data/disturb.py has the units.
DISTURBANCES = {
    f'{kind}_{strength:g}': (kind, strength)
    for kind, strengths in dict(
        size=(0.5, 2.0),
        jpeg=(30, 10),
        blur=(1.0, 3.0),
        noise=(0.05, 0.15),
        brightness=(0.5, 1.5),
    ).items()
    for strength in strengths
}
SCALES = ('scale', 'scale_factor', 'crop_size', 'size')  # of transforms that resize, crop and pad


def build_parser() -> argparse.ArgumentParser:
    """The arguments of an evaluation on disturbed images."""
    parser = argument_parser('Evaluate a trained model on disturbed images.', trained=True)
    parser.add_argument(
        '--only',
        nargs='+',
        choices=DISTURBANCES,
        metavar='NAME',
        help=f'some of {", ".join(DISTURBANCES)}; undisturbed images are always evaluated',
    )
    parser.add_argument('--metrics', nargs='+', metavar='NAME', help='only these columns')
    parser.add_argument('--output', metavar='FILE.md', help='default: WORK_DIR/robustness.md')
    return parser


def main(argv: list[str] | None = None) -> int:
    """Evaluate, write the table, and return how many disturbances failed or collapsed a metric."""
    args = build_parser().parse_args(argv)
    cfg, checkpoint = prepare(args)
    folder = Path(cfg.work_dir)
    place = Path(args.output or folder / 'robustness.md')
    names = [name for name in DISTURBANCES if args.only is None or name in args.only]
    # All of them before the first evaluation: a pipeline that cannot be changed is told at once.
    configs = {NONE: cfg} | {name: disturbed(cfg, *DISTURBANCES[name]) for name in names}
    results: dict[str, dict[str, float] | ExportError] = {}
    for name, changed in configs.items():
        print(f'\n{name}', flush=True)
        changed.work_dir = str(folder / 'robustness' / name)
        try:
            results[name] = result = _evaluate(changed, checkpoint, args.cfg_options)
        except ExportError as error:  # a file of a fixed size, and images of another
            if name == NONE:
                raise
            results[name] = error
        else:
            if name == NONE:
                _check_undisturbed(result, args.metrics)
        text, failures = table(results, args.metrics, 3 if cfg.default_scope == 'mmdet' else 2)
        write_file(place, text)  # after each, so that none is lost when a later one ends it
    print(f'\n{text}')
    print_results({'table': place})
    return failures


def disturbed(cfg: 'Config', kind: str, strength: float) -> 'Config':
    """Return a config whose test images are disturbed.

    Raises:
        UsageError: sizes are to change, and nothing in the test pipeline has one; or images, and
            no step of it is known to load them.
    """
    cfg = copy.deepcopy(cfg)
    for dataset in leaf_datasets(cfg.test_dataloader.dataset):
        steps = dataset.pipeline
        if kind == 'size':
            places = [(step, key) for step in steps for key in SCALES if step.get(key)]
            if not places:
                raise UsageError(
                    f'size_{strength:g}: no step of the test pipeline has a {" or ".join(SCALES)}; '
                    'choose others with --only'
                )
            for step, key in places:
                step[key] = _times(step[key], strength, whole=key != 'scale_factor')
            continue
        # Data sets that hold images, as CIFAR does, load none.
        kinds = [str(step['type']) for step in steps]
        loads = [i for i, name in enumerate(kinds) if re.search(r'Load\w*Image', name)]
        if not loads and any('Load' in name for name in kinds):
            raise UsageError(f'expected a step that loads images in the pipeline, got {kinds}')
        at = loads[0] + 1 if loads else 0
        steps.insert(at, dict(type='mmhybrid.Disturb', kind=kind, strength=strength))
    return cfg


def _times(value, factor, whole):
    if isinstance(value, (list, tuple)):
        return tuple(_times(one, factor, whole) for one in value)
    if not 0 < value < math.inf:  # a side that sets no bound
        return value
    return round(value * factor) if whole else value * factor


def _evaluate(cfg, checkpoint, options):
    from ..engine.separate import separate_run

    with separate_run():
        metrics, _ = evaluate_config(cfg, checkpoint, options)
    return single_numbers(metrics)


def _check_undisturbed(result, chosen):
    if not any(value > 0 for value in result.values()):
        raise UsageError(
            'on undisturbed images no metric is above 0, so there is nothing to compare with: '
            + (', '.join(f'{name} {value}' for name, value in result.items()) or 'no object found')
        )
    if unknown := [name for name in chosen or () if name not in result]:
        raise UsageError(f'--metrics: no {", ".join(unknown)}; there are {", ".join(result)}')


def table(
    results: Mapping[str, Mapping[str, float] | ExportError],
    chosen: Sequence[str] | None,
    digits: int,
) -> tuple[str, int]:
    """Return metrics as Markdown, and how many disturbances have none or a collapsed one.

    A metric collapsed if it was above 0 and is below a tenth of that, no number, or missing. A line
    below the table names it.

    Args:
        results: metrics of each disturbance, or why there are none; the undisturbed ones first.
        chosen: the metrics that are columns; all if None.
        digits: after the point.
    """
    first = results[NONE]
    assert not isinstance(first, ExportError)  # main raises it
    columns = list(first if chosen is None else chosen)
    lines = ['| | ' + ' | '.join(columns) + ' |', '|---' * (len(columns) + 1) + '|']
    notes = []
    for name, result in results.items():
        known = {} if isinstance(result, ExportError) else result
        cells = [_cell(known.get(key), first[key], name != NONE, digits) for key in columns]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
        gone = [
            key
            for key, value in first.items()
            if value > 0 and not known.get(key, 0) >= COLLAPSED * value
        ]
        gone += [key for key, value in first.items() if name == NONE and math.isnan(value)]
        said = ', '.join(f'{key} {known[key]:g}' for key in gone if key in known)
        if known is not result:
            notes.append(f'{name}: not evaluated: {result}')
        elif gone:
            notes.append(f'{name}: collapsed: {said or "no object was found"}')
    return '\n'.join(lines + [''] * bool(notes) + notes) + '\n', len(notes)


def _cell(value, before, compared, digits):
    if value is None:
        return '-'
    text = f'{value:.{digits}f}'
    return f'{text} ({value - before:+.{digits}f})' if compared else text
