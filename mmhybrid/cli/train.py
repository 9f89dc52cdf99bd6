"""Train a detector, segmentor or classifier: the config's default_scope decides.

    mmhybrid train CONFIG [--work-dir DIR] [--resume [CHECKPOINT]] [--amp [fp16|bf16]]
                          [--cfg-options KEY=VALUE ...] [--launcher pytorch]

Without a GPU it runs on the CPU. Stopped or killed, it goes on with --resume, as if nothing had
happened. docs/training.md has the commands for several GPUs and machines.
"""

import argparse
import contextlib
import copy
import difflib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import add_launcher, argument_parser
from .config import backbone_of, check_count, load_config, name_of, require
from .datasets import check_data, classes_of, compare_classes
from .launch import build_runner
from .paths import find_checkpoint
from .scale import add_options, apply_options, compile_backbone
from .usage import UsageError, from_here, print_results, reading, single_numbers

if TYPE_CHECKING:
    from mmengine.runner import Runner

# A hook that a config names itself, under the same name, is left as it is.
HOOKS = dict(
    exact_resume=dict(type='mmhybrid.ExactResumeHook'),
    finite_loss=dict(type='mmhybrid.FiniteLossHook'),
    lora=dict(type='mmhybrid.LoRAHook'),
    preemption=dict(type='mmhybrid.PreemptionHook'),
)
LOADER_TIMEOUT = 600  # seconds that the loading processes may take for a batch
LOST = ('gloo', 'Gloo', 'Application timeout')  # in what gloo says when another process is lost


def build_parser() -> argparse.ArgumentParser:
    """The arguments of a training."""
    parser = argument_parser('Train a detector, segmentor or classifier.')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a path, from the newest good one in the work dir',
    )
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size'
    )
    parser.add_argument(
        '--weights', help='of the backbone: a file, an address or a name, as in docs/weights.md'
    )
    parser.add_argument(
        '--lora',
        type=int,
        metavar='RANK',
        help="freeze the ViT's weights and train low-rank changes of them (LoRA), adapter and head",
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate while training')
    parser.add_argument(
        '--early-stop',
        metavar='METRIC',
        help='stop when an evaluation no longer gains in METRIC, as coco/bbox_mAP, mIoU or '
        'accuracy/top1',
    )
    parser.add_argument(
        '--patience', type=int, default=5, help='evaluations without a gain for --early-stop'
    )
    parser.add_argument('--seed', type=int, help='of every random choice')
    parser.add_argument(
        '--broken-images',
        choices=['stop', 'skip'],
        help='a training image that cannot be loaded ends the training (stop, the default), or is '
        'named in the log and replaced by the next one (skip)',
    )
    add_options(parser)
    add_launcher(parser)
    return parser


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the arguments."""
    return build_parser().parse_args(argv)


def main(argv: list[str] | None = None, hooks: Sequence = ()) -> 'Runner':
    """Train, with ``hooks`` beside those of the config; print where all is; return the runner."""
    result = train(parse_args(argv), hooks)
    print_results(
        {
            'work dir': result.work_dir,
            'checkpoint': result.checkpoint,
            'best': result.best,
            'LoRA': _left_out(result.runner),
            'metrics': ', '.join(f'{k} {v:.4g}' for k, v in result.metrics.items()) or None,
            'report': result.report,
            'log': Path(result.runner.log_dir),
        }
    )
    return result.runner


def _left_out(runner: 'Runner') -> str | None:
    """Say where the weights are that the checkpoints of a training with LoRA do not hold."""
    from ..engine import LoRAHook

    files = [file for it in runner.hooks if isinstance(it, LoRAHook) for file in it.files]
    if not files:
        return None
    return (
        f'the frozen weights are not in the checkpoint, but in {", ".join(files)}; mmhybrid '
        'convert --merge-lora joins both'
    )


@dataclass
class Training:
    """A finished training: its files, and the metrics of its last evaluation."""

    runner: 'Runner'
    work_dir: Path
    checkpoint: Path | None
    best: Path | None
    report: Path | None
    metrics: dict[str, float]


def train(args: argparse.Namespace, hooks: Sequence = ()) -> Training:
    """Train, with ``hooks`` beside those of the config."""
    from ..checkpoints import CheckpointError
    from ..engine import (
        TrainingError,
        check_weights,
        checkpoint_folder,
        latest_checkpoint,
        read_checkpoint,
        safe_loading,
    )
    from ..engine.console import EvaluationsInEta
    from ..engine.resume import LastEvaluationHook

    cfg = load_config(args)
    with reading(name_of(args.config)):
        _apply(args, cfg)
        apply_options(args, cfg)
    given = cfg.get('load_from')
    folder = checkpoint_folder(cfg)
    if past := _past(args, cfg, folder):
        cfg.load_from = str(past)
    elif given and '://' not in str(given):
        cfg.load_from = str(find_checkpoint(given, 'checkpoint (load_from)'))
    else:
        cfg.load_from = given
    cfg.resume = past is not None
    if cfg.resume:
        parts = _take_seed(args, cfg)
    splits = ['train'] if args.no_validate else ['train', 'val']
    check_data(cfg, splits, contents=not cfg.resume)  # which the first start has read

    runner = build_runner(cfg)
    if cfg.resume:  # a checkpoint of another model ends here
        _, meta = check_weights(getattr(runner.model, 'module', runner.model), cfg.load_from)
        compare_classes(cfg.load_from, meta.get('dataset_meta'), classes_of(cfg, 'train'))
        _check_state(cfg, parts)
    elif cfg.load_from and '://' not in cfg.load_from:
        with contextlib.suppress(CheckpointError):  # other kinds of files are the host's to read
            meta = read_checkpoint(cfg.load_from)['meta']
            compare_classes(
                cfg.load_from, meta.get('dataset_meta'), classes_of(cfg, 'train'), fine_tuning=True
            )
    _check_agreement(cfg)
    if args.compile:
        compile_backbone(runner, args.compile)
    _begin_later(runner, given)
    runner.register_hook(EvaluationsInEta())
    runner.register_hook(LastEvaluationHook())
    metrics: dict[str, Any] = {}
    for hook in (*hooks, _keep_metrics(metrics)):
        runner.register_hook(hook, priority='VERY_LOW')
    try:
        with safe_loading():
            runner.train()
    except KeyboardInterrupt:
        last = latest_checkpoint(folder)
        if last is None:
            print(f'\nstopped before the first checkpoint in {folder}', file=sys.stderr)
        else:
            print(f'\nstopped; {last} is complete: go on with --resume', file=sys.stderr)
        raise
    except TrainingError:
        raise
    except RuntimeError as error:
        message = _explain(error, runner)
        if message is None:
            raise
        last = latest_checkpoint(folder)
        left = f'{last} is complete: go' if last else 'There is no checkpoint yet. Go'
        raise TrainingError(f'{message} {left} on with --resume') from error
    work_dir = Path(cfg.work_dir)
    report = work_dir / 'report.html'
    return Training(
        runner=runner,
        work_dir=work_dir,
        checkpoint=_saved(runner, folder, 'last_ckpt'),
        best=_saved(runner, folder, 'best_ckpt'),
        report=report if args.report and report.exists() else None,
        metrics=metrics,
    )


def _saved(runner, folder, key):
    """A checkpoint of this training, whose folder may hold those of others; None without one."""
    path = folder / Path(runner.message_hub.runtime_info.get(key, '.')).name
    return path if path.is_file() else None


def _keep_metrics(metrics):
    """A hook that fills ``metrics`` with the numbers of the last evaluation."""
    from mmengine.hooks import Hook

    class KeepMetrics(Hook):
        def after_val_epoch(self, runner, metrics=None):
            kept.clear()
            kept.update(single_numbers(metrics or {}))
            if not kept:
                runner.logger.info(
                    'no metrics: no object was found in the validation images, as after few steps'
                )

    kept = metrics
    return KeepMetrics()


def _begin_later(runner, load_from):
    """Save the config and say in a few lines what trains, when all is built and loaded.

    A training that cannot begin leaves no config behind. The saved one begins as the given one
    does, with its ``load_from``, also where this training is resumed.
    """
    from mmengine.hooks import Hook

    from ..engine.console import summarise

    class Begin(Hook):
        def before_train(self, runner):
            runner.cfg.load_from, runner.cfg.resume = load_from, False
            runner.dump_config()
            name = Path(runner.cfg.filename or f'{runner.timestamp}.py').name
            for line in summarise(runner):
                runner.logger.info(line)
            runner.logger.info(
                f'config: {from_here(Path(runner.work_dir, name))}; versions, hooks and options of '
                f'each parameter: the log in {from_here(Path(runner.log_dir))}'
            )

    runner.register_hook(Begin(), priority='VERY_HIGH')


def _apply(args, cfg):
    require(
        cfg, name_of(args.config), ['train_dataloader', 'train_cfg', 'optim_wrapper'], 'trained'
    )
    if cfg.train_dataloader.get('batch_size') is not None:
        check_count('train_dataloader.batch_size', cfg.train_dataloader.batch_size)
    for key in ('max_epochs', 'max_iters'):
        if cfg.train_cfg.get(key) is not None:
            check_count(f'train_cfg.{key}', cfg.train_cfg[key])
    _check_optimizer(cfg)
    cfg.default_hooks = _hooks(args, cfg.get('default_hooks') or {})
    if cfg.train_dataloader.get('num_workers', 0) > 0:
        cfg.train_dataloader.setdefault('timeout', LOADER_TIMEOUT)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.lora is not None:
        _add_lora(args, cfg)
    if args.early_stop:
        _stop_early(args, cfg)
    if args.seed is not None:
        if args.seed < 0:
            raise UsageError(f'--seed {args.seed}: expected 0 or more')
        cfg.randomness = dict(cfg.get('randomness', {}), seed=args.seed)


def _add_lora(args, cfg):
    if args.lora < 1:
        raise UsageError(f'--lora {args.lora}: expected a rank of at least 1')
    if importlib.util.find_spec('peft') is None:
        raise UsageError('--lora: peft is not installed; pip install mmhybrid[lora]')
    backbone = backbone_of(cfg, '--lora', 'lora')
    if not backbone.get('init_cfg') and not cfg.get('load_from'):
        raise UsageError('--lora keeps the weights of the ViT, here random ones: add --weights')
    backbone.lora = dict(backbone.get('lora') or {}, r=args.lora)
    if backbone.get('freeze'):
        backbone['freeze'] = None  # a method of ConfigDict has the name


def _stop_early(args, cfg):
    from mmengine.registry import METRICS

    if args.patience < 1:
        raise UsageError(f'--patience {args.patience}: expected at least 1 evaluation')
    if args.no_validate or not cfg.get('val_evaluator'):
        raise UsageError('--early-stop looks at evaluations, and this training has none')
    given = cfg.val_evaluator
    given = given if isinstance(given, (list, tuple)) else [given]
    types = [f'{cfg.default_scope}.{one["type"]}' for one in given]
    prefixes = [
        one.get('prefix') or getattr(METRICS.get(kind), 'default_prefix', None)
        for one, kind in zip(given, types, strict=True)
    ]
    if all(prefixes) and not args.early_stop.startswith(tuple(f'{it}/' for it in prefixes)):
        raise UsageError(
            f'--early-stop {args.early_stop}: the evaluation gives metrics that begin with '
            + ' or '.join(f'{prefix}/' for prefix in prefixes)
        )
    hook = dict(type='mmhybrid.EarlyStopHook', monitor=args.early_stop, patience=args.patience)
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), hook]


def _check_optimizer(cfg):
    """mmengine takes any name, and looks into what it has found none of."""
    import mmengine.optim  # noqa: F401, registers those of torch
    from mmengine.registry import OPTIMIZERS, DefaultScope

    kind = (cfg.optim_wrapper.get('optimizer') or {}).get('type')
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        if not isinstance(kind, str) or OPTIMIZERS.get(kind) is not None:
            return
    near = difflib.get_close_matches(kind, OPTIMIZERS.module_dict, n=3)
    raise UsageError(
        f'optim_wrapper.optimizer.type={kind}: no optimizer has this name'
        + (f'; did you mean {" or ".join(near)}?' if near else '')
    )


def _hooks(args, given):
    hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1), **copy.deepcopy(HOOKS)) | given
    hooks = {name: hook for name, hook in hooks.items() if hook or name not in HOOKS}
    checkpoint = hooks['checkpoint']
    if checkpoint and checkpoint['type'] == 'CheckpointHook':
        checkpoint['type'] = 'mmhybrid.AtomicCheckpointHook'
    if args.broken_images:
        if 'exact_resume' not in hooks:
            raise UsageError('--broken-images needs default_hooks.exact_resume, which is None')
        hooks['exact_resume']['broken'] = args.broken_images
    return hooks


def _past(args, cfg, folder):
    """Return the checkpoint that is gone on from; None for a training that begins."""
    from ..engine import latest_checkpoint

    if args.resume is None:
        if cfg.get('resume'):
            raise UsageError(
                f'{name_of(args.config)}, or --cfg-options, has resume=True: to go on, leave it '
                'out and give --resume, or --resume CHECKPOINT; to begin anew, give --cfg-options '
                'resume=False load_from=None'
            )
        return None
    if args.resume != 'auto':
        return find_checkpoint(args.resume, best=False)
    if '://' in str(folder):
        raise UsageError(f'--resume: checkpoints are saved to {folder}; give a file of them')
    last = latest_checkpoint(folder)
    if last is None:
        print(f'--resume: no checkpoint in {folder} yet, starting from the beginning')
    return last


def _take_seed(args, cfg):
    """Build everything with the seed of the checkpoint: mmengine reads it when that is done.

    Returns:
        The names of the parts of the checkpoint and of its ``meta``.
    """
    from ..engine import read_checkpoint

    past = read_checkpoint(cfg.load_from)
    seed = past['meta'].get('seed')
    if seed is not None:
        if args.seed not in (None, seed):
            raise UsageError(
                f'--seed {args.seed} with --resume: {cfg.load_from} was made with seed {seed}; '
                'leave --seed out, or start anew without --resume'
            )
        cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)
    return {*past['parts'], *past['meta']}


def _check_state(cfg, parts):
    """Refuse to go on from weights alone, which mmengine does with a new optimizer."""
    needed = ['optimizer', 'iter', *(['param_schedulers'] if cfg.get('param_scheduler') else [])]
    if missing := [part for part in needed if part not in parts]:
        raise UsageError(
            f'--resume {cfg.load_from}: it holds weights, as best_*.pth do, and no '
            f'{", no ".join(missing)} to go on with. Give an epoch_*.pth or iter_*.pth, or begin '
            f'anew from its weights: --cfg-options load_from={cfg.load_from}'
        )


def _explain(error, runner):
    """Explain an error that another process caused; None for others. torch has no class for it."""
    import torch

    first = str(error).strip().partition('\n')[0].rstrip('. ')
    if 'find_unused_parameters' in str(error):
        return (
            'some weights of the model take no part in its loss, which several processes must know '
            'beforehand: --cfg-options find_unused_parameters=True.'
        )
    if first.startswith('DataLoader worker'):  # raised wherever the training happens to be
        return (
            f'{first}, around iteration {runner.iter + 1}. It may have run out of memory: fewer of '
            'them need less, --cfg-options train_dataloader.num_workers=1.'
        )
    if isinstance(error, torch.distributed.DistError) or any(word in str(error) for word in LOST):
        return (
            f'process {runner.rank} of {runner.world_size} lost the others after iteration '
            f'{runner.iter} ({first}). Their output says why.'
        )
    return None


def _check_agreement(cfg):
    """All processes must begin with the same weights."""
    from mmengine.dist import all_gather_object, get_rank

    found = all_gather_object(cfg.load_from)
    if len(set(found)) > 1:
        raise UsageError(
            f'process {get_rank()} begins from {cfg.load_from}, process 0 from {found[0]}: the '
            f'work dir {cfg.work_dir} must be one folder that all machines share'
        )
