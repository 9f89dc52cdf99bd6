"""Evaluate the checkpoint of a work dir and write a report: one HTML file, with pictures.

    mmhybrid report WORK_DIR [--checkpoint FILE] [--out FILE.html] [--examples N]
                           [--score-thr S] [--cfg-options KEY=VALUE ...]

The config is the one that the training left in WORK_DIR, the checkpoint its best one, else its
newest. `mmhybrid train --report` and `mmhybrid test --report` write the same page at their end.
"""

import argparse
from pathlib import Path

from .arguments import KeyValues
from .config import load_config, require
from .datasets import check_data, classes_of, compare_classes
from .launch import build_runner
from .paths import find, find_checkpoint, trained_config
from .usage import UsageError


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work_dir', metavar='WORK_DIR', help='folder of a training')
    parser.add_argument('--checkpoint', metavar='FILE')
    parser.add_argument('--out', metavar='FILE.html', help='default: WORK_DIR/report.html')
    parser.add_argument('--examples', type=int, default=6, help='worst, and best, images shown')
    parser.add_argument('--score-thr', type=float, default=0.3, help='of objects, 0 to 1')
    parser.add_argument('--cfg-options', nargs='+', action=KeyValues, default={})
    args = parser.parse_args(argv)
    if args.examples < 1 or not 0 <= args.score_thr <= 1:
        parser.error('--examples is at least 1, --score-thr from 0 to 1')
    if args.out and not args.out.endswith('.html'):
        parser.error(f'--out {args.out}: expected an .html file')
    return args


def main(argv: list[str] | None = None) -> Path:
    """Evaluate and write; return the path of the page."""
    from ..engine import load_trained

    args = parse_args(argv)
    work_dir = find(args.work_dir, 'work dir')
    config = trained_config(work_dir)
    checkpoint = find_checkpoint(args.checkpoint or work_dir)
    out = Path(args.out or work_dir / 'report.html')
    cfg = load_config(
        argparse.Namespace(config=str(config), work_dir=str(work_dir), cfg_options=args.cfg_options)
    )
    require(cfg, str(config), ['test_dataloader', 'test_cfg', 'test_evaluator'], 'evaluated')
    check_data(cfg, ['test'])
    hook = dict(
        type='mmhybrid.ReportHook',
        path=str(out),
        examples=args.examples,
        score_thr=args.score_thr,
        weights=checkpoint.name,
    )
    others = [one for one in cfg.get('custom_hooks') or [] if one['type'] != hook['type']]
    cfg.custom_hooks = [*others, hook]
    cfg.load_from, cfg.resume = None, False
    before = out.stat().st_mtime_ns if out.exists() else None
    runner = build_runner(cfg)
    meta = load_trained(runner.model, checkpoint)
    compare_classes(checkpoint, meta.get('dataset_meta'), classes_of(cfg, 'test'))
    runner.test()
    if not out.exists() or out.stat().st_mtime_ns == before:
        raise UsageError(f'{out} was not written: the log above says why')
    print(out)
    return out
