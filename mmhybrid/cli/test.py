"""Evaluate a trained detector, segmentor or classifier with the config's metrics.

mmhybrid test WORK_DIR [--out FILE.pkl] [--show-dir DIR] [--tta] [--cfg-options KEY=VALUE ...]
mmhybrid test CONFIG CHECKPOINT [--work-dir DIR] [--launcher pytorch] ...
mmhybrid test CONFIG FILE.onnx|.xml|.pt2 ...

WORK_DIR, of a training, stands for the config saved in it and its best checkpoint, else the newest.
A file that mmhybrid export wrote runs in the place of the model, in its own runtime; pipeline,
batches and metrics are those of the config.
"""

import argparse
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import add_launcher, argument_parser
from .config import load_config, name_of, require
from .datasets import check_data, classes_of, compare_classes, leaf_datasets
from .launch import build_runner, load_model
from .paths import find_checkpoint, find_trained, is_folder
from .usage import UsageError, print_results, single_numbers

if TYPE_CHECKING:
    from mmengine.config import Config

QUERY_IOU = 0.7  # of two boxes of a class that heads of queries, which need no NMS, both keep
UNTURNED = ('LoadAnnotations', 'LoadPanopticAnnotations')


def build_parser() -> argparse.ArgumentParser:
    """The arguments of an evaluation."""
    parser = argument_parser('Evaluate a trained detector, segmentor or classifier.', trained=True)
    parser.add_argument('--out', metavar='FILE.pkl', help='write the raw predictions')
    parser.add_argument('--show-dir', metavar='DIR', help='write pictures of the predictions')
    parser.add_argument(
        '--tta',
        action='store_true',
        help="test-time augmentation: the config's tta_model and tta_pipeline, else a flipped view",
    )
    add_launcher(parser)
    return parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the arguments."""
    parser = build_parser()
    args = parser.parse_args(argv)
    check_args(parser, args)
    return args


def check_args(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Let the parser end with an error where a value cannot be used."""
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out {args.out}: expected a .pkl file')


def main(argv: list[str] | None = None) -> dict:
    """Evaluate, print the metrics and where all is, and return the metrics."""
    args = parse_args(argv)
    metrics, log_dir = evaluate(args)
    plain = single_numbers(metrics)
    if metrics:
        print(json.dumps({name: round(value, 4) for name, value in plain.items()}, indent=2))
    else:
        print('no metrics: no object was found in the images')
    for name in metrics.keys() - plain.keys():  # of each class, or a matrix
        print(f'{name}: {metrics[name]}')
    report = log_dir.parent / 'report.html'
    print_results(
        {
            'log': log_dir,
            'predictions': args.out,
            'pictures': args.show_dir,
            'report': report if args.report and report.exists() else None,
        }
    )
    return metrics


def evaluate(args: argparse.Namespace) -> tuple[dict, Path]:
    """Evaluate; return the metrics and the folder of the log."""
    cfg, checkpoint = prepare(args)
    if args.show_dir:
        _write_pictures(cfg, str(Path(args.show_dir).absolute()))
    if args.tta:
        _augment(cfg, name_of(args.config))
    return evaluate_config(cfg, checkpoint, args.cfg_options, args.out)


def prepare(args: argparse.Namespace) -> tuple['Config', Path]:
    """Return the config of an evaluation, its data checked, and the place of the checkpoint."""
    if args.work_dir is None and is_folder(args.config):
        args.work_dir = str(args.config)  # which may have been moved since
    args.config, args.checkpoint = find_trained(args.config, args.checkpoint)
    checkpoint = find_checkpoint(args.checkpoint)
    cfg = load_config(args)
    keys = ['test_dataloader', 'test_cfg', 'test_evaluator']
    require(cfg, name_of(args.config), keys, 'evaluated')
    cfg.load_from, cfg.resume = None, False
    # A checkpoint holds the average, and the hook would copy the model.
    hooks = cfg.get('custom_hooks') or []
    cfg.custom_hooks = [hook for hook in hooks if not str(hook['type']).endswith('EMAHook')]
    check_data(cfg, ['test'])
    return cfg, checkpoint


def evaluate_config(
    cfg: 'Config', checkpoint: Path, options: Mapping, predictions: str | None = None
) -> tuple[dict, Path]:
    """Evaluate what :func:`prepare` gives.

    Args:
        cfg: of the evaluation.
        checkpoint: a checkpoint, or an exported file.
        options: of ``--cfg-options``, which an exported file cannot follow all.
        predictions: the file they are written to, if any.

    Returns:
        The metrics, and the folder of the log.
    """
    from mmengine.device import get_device

    from ..engine.bf16 import features_in_bf16

    runner = build_runner(cfg)
    model = runner.model
    while hasattr(model, 'module'):  # out of a distributed and a TTA wrapper
        model = model.module
    is_half = bool(cfg.test_cfg.get('fp16'))  # the host's name of autocast
    meta = load_model(model, checkpoint, options, 'bf16' if is_half else 'f32')
    compare_classes(checkpoint, meta, classes_of(cfg, 'test'))
    if predictions:
        from mmengine.registry import METRICS

        det = cfg.default_scope == 'mmdet'
        dump = dict(type='mmdet.DumpDetResults' if det else 'DumpResults')
        runner.test_evaluator.metrics.append(METRICS.build(dict(dump, out_file_path=predictions)))
    if not (is_half and get_device() == 'cpu'):
        return runner.test(), Path(runner.log_dir)
    # Autocast on a CPU is bfloat16, which neither NMS nor the metrics of a detector know.
    runner.test_loop.fp16 = False
    with features_in_bf16(model):
        return runner.test(), Path(runner.log_dir)


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
    """Put what a config says of test-time augmentation in place, or a flipped view of each image.

    Raises:
        UsageError: the model's predictions of several views cannot be joined.
    """
    given = [key for key in ('tta_model', 'tta_pipeline') if cfg.get(key)]
    if len(given) == 1:
        raise UsageError(f'--tta: {name} has a {given[0]} alone; expected both or none')
    if given:
        wrapper, pipeline = cfg.tta_model, cfg.tta_pipeline
    else:
        wrapper, pipeline = _tta_model(cfg), None
    cfg.model = dict(wrapper, module=cfg.model)
    for dataset in leaf_datasets(cfg.test_dataloader.dataset):
        dataset.pipeline = pipeline or flipped_too(dataset.pipeline)


def _tta_model(cfg):
    if cfg.default_scope == 'mmseg':
        return dict(type='SegTTAModel')
    if cfg.default_scope == 'mmpretrain':
        return dict(type='AverageClsScoreTTA')
    from ..engine import tta  # noqa: F401, registers DetectorTTA

    test_cfg = cfg.model.get('test_cfg') or {}
    if test_cfg.get('panoptic_on', 'panoptic_fusion_head' in cfg.model):
        raise UsageError(
            '--tta: segments of panoptic predictions have no scores by which views could be '
            'joined; leave it out'
        )
    final = test_cfg.get('rcnn') or test_cfg
    nms = final.get('nms') or dict(iou_threshold=QUERY_IOU)
    return dict(
        type='mmhybrid.DetectorTTA',
        iou_threshold=nms['iou_threshold'],
        max_per_img=final.get('max_per_img', final.get('max_per_image', 100)),
    )


def flipped_too(pipeline: list) -> list:
    """Return a test pipeline that gives each image as it is, and flipped from left to right."""
    loader, *steps = copy.deepcopy(list(pipeline))
    views = [[step] for step in steps]
    # Annotations stay as they are: they are compared with what is turned back.
    at = next((i for i, step in enumerate(steps) if _kind(step) in UNTURNED), len(steps) - 1)
    views.insert(at, [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)])
    if 'meta_keys' in steps[-1]:
        steps[-1]['meta_keys'] = (*steps[-1]['meta_keys'], 'flip', 'flip_direction')
    return [loader, dict(type='TestTimeAug', transforms=views)]


def _kind(step):
    return str(step['type']).split('.')[-1]
