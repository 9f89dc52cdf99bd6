"""Evaluate a trained detector, segmentor or classifier with the config's metrics.

python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out FILE.pkl] [--show-dir DIR]
                     [--tta] [--cfg-options KEY=VALUE ...] [--launcher pytorch]
"""

import json
from pathlib import Path

from .arguments import CHECKPOINT, add_launcher, argument_parser
from .config import load_config, require
from .datasets import check_data, classes_of, compare_classes
from .launch import build_runner, load_model
from .paths import find_checkpoint
from .usage import UsageError


def parse_args(argv):
    """Parse and check the arguments."""
    parser = argument_parser('Evaluate a trained detector, segmentor or classifier.')
    parser.add_argument('checkpoint', help=CHECKPOINT)
    parser.add_argument('--out', metavar='FILE.pkl', help='write the raw predictions')
    parser.add_argument('--show-dir', metavar='DIR', help='write pictures of the predictions')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation, as configured')
    add_launcher(parser)
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out {args.out}: expected a .pkl file')
    return args


def main(argv=None):
    """Evaluate, and return the metrics."""
    args = parse_args(argv)
    checkpoint = find_checkpoint(args.checkpoint)
    cfg = load_config(args)
    require(cfg, args.config, ['test_dataloader', 'test_cfg', 'test_evaluator'], 'evaluated')
    cfg.load_from, cfg.resume = None, False
    check_data(cfg, ['test'])
    if args.show_dir:
        _write_pictures(cfg, str(Path(args.show_dir).absolute()))
    if args.tta:
        _augment(cfg, args.config)

    runner = build_runner(cfg)
    model = runner.model
    while hasattr(model, 'module'):  # out of a distributed and a TTA wrapper
        model = model.module
    compare_classes(checkpoint, load_model(model, checkpoint), classes_of(cfg, 'test'))
    if args.out:
        from mmengine.registry import METRICS

        det = cfg.default_scope == 'mmdet'
        dump = dict(type='mmdet.DumpDetResults' if det else 'DumpResults', out_file_path=args.out)
        runner.test_evaluator.metrics.append(METRICS.build(dump))
    metrics = runner.test()
    print(json.dumps({key: round(float(value), 4) for key, value in metrics.items()}, indent=2))
    return metrics


def _write_pictures(cfg, folder):
    hook = cfg.default_hooks.setdefault('visualization', {})
    if cfg.default_scope == 'mmdet':
        hook.update(type='DetVisualizationHook', draw=True, interval=1, test_out_dir=folder)
    elif cfg.default_scope == 'mmseg':
        hook.update(type='SegVisualizationHook', draw=True, interval=1)
        cfg.visualizer.save_dir = folder
    else:
        hook.update(type='VisualizationHook', enable=True, interval=1, out_dir=folder)


def _augment(cfg, name):
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        raise UsageError(f'--tta: {name} has no tta_model and tta_pipeline')
    cfg.model = dict(cfg.tta_model, module=cfg.model)
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset.pipeline = cfg.tta_pipeline
