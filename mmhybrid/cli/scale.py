"""The options of train.py that fit a training to its machines, and what they change in a config."""

import argparse
from typing import TYPE_CHECKING

from .config import backbone_of, name_of
from .usage import UsageError

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    group = parser.add_argument_group('memory and speed')
    group.add_argument(
        '--amp',
        nargs='?',
        const='auto',
        choices=['auto', 'fp16', 'bf16'],
        metavar='fp16|bf16',
        help='mixed precision; without a value float16 on a GPU and bfloat16 on a CPU',
    )
    group.add_argument(
        '--accumulate',
        type=int,
        metavar='N',
        help='add up the gradients of N iterations before each step: N times the batch size in '
        'the memory of one. Iterations are counted as before',
    )
    group.add_argument(
        '--with-cp',
        action='store_const',
        const=True,
        help="compute the backbone's activations again in the backward pass: slower, less memory",
    )
    group.add_argument(
        '--with-cp-light',
        action='store_const',
        const='light',
        dest='with_cp',
        help='the same of norms, activations and sums alone',
    )
    group.add_argument(
        '--compile',
        nargs='?',
        const='inductor',
        metavar='BACKEND',
        help='torch.compile the backbone; BACKEND inductor if not given',
    )
    group.add_argument(
        '--ema',
        nargs='?',
        const=0.0002,
        type=float,
        metavar='MOMENTUM',
        help='evaluate and save an exponential moving average of the weights; share of the new '
        'weights in each step, 0.0002 if not given',
    )
    group.add_argument(
        '--fsdp',
        nargs='?',
        const=100_000,
        type=int,
        metavar='WEIGHTS',
        help='spread weights, gradients and optimizer state over all processes; blocks of at least '
        'WEIGHTS (100000 if not given) are gathered one by one',
    )


def apply_options(args: argparse.Namespace, cfg: 'Config') -> None:
    """Change ``cfg`` as the options say.

    Raises:
        UsageError: options that do not go together, or not with this model.
    """
    if args.accumulate is not None:
        if args.accumulate < 1:
            raise UsageError(f'--accumulate {args.accumulate}: expected at least 1')
        cfg.optim_wrapper.accumulative_counts = args.accumulate
    if args.auto_scale_lr:
        _scale_lr(args, cfg)
    if args.with_cp:
        _recompute(args, cfg)
    if args.ema is not None:
        if not 0 < args.ema < 1:
            raise UsageError(f'--ema {args.ema}: expected a number between 0 and 1, as 0.0002')
        hooks = list(cfg.get('custom_hooks') or [])
        if any(hook.get('type') in ('EMAHook', 'ExpMomentumEMAHook') for hook in hooks):
            raise UsageError(
                f'--ema: {name_of(args.config)} has an EMAHook in custom_hooks already; change its '
                'momentum there, or leave the option out'
            )
        # The hook averages in each iteration, several of which make a step.
        counts = cfg.optim_wrapper.get('accumulative_counts', 1)
        momentum = args.ema if counts == 1 else 1 - (1 - args.ema) ** (1 / counts)
        cfg.custom_hooks = [*hooks, dict(type='EMAHook', momentum=momentum)]
    if args.fsdp is not None:
        _shard(args, cfg)
    if args.compile is not None:
        from torch._dynamo import list_backends

        if args.compile not in list_backends(exclude_tags=()):
            known = ', '.join([*list_backends(), 'aot_eager', 'eager'])
            raise UsageError(f'--compile {args.compile}: expected one of {known}')


def _recompute(args, cfg):
    from mmengine.registry import MODELS

    from ..models.backbones import Backbone

    backbone = backbone_of(cfg, '--with-cp', 'with_cp')
    if args.with_cp == 'light' and not issubclass(MODELS.get(backbone.type), Backbone):
        raise UsageError(
            f'--with-cp-light: {backbone.type} is no backbone of mmhybrid; give --with-cp alone'
        )
    backbone.with_cp = args.with_cp


def _shard(args, cfg):
    if cfg.launcher == 'none':
        raise UsageError('--fsdp spreads a model over several processes: give a --launcher')
    hooks = cfg.get('custom_hooks') or []
    if any('EMA' in str(hook.get('type')) for hook in hooks):
        raise UsageError('--fsdp does not go with an average of the weights (--ema, EMAHook)')
    wrapper = cfg.optim_wrapper
    if wrapper.get('type') == 'AmpOptimWrapper' and wrapper.get('dtype') != 'bfloat16':
        raise UsageError('--fsdp with mixed precision in float16 is not supported: give --amp bf16')
    cfg.runner_type = 'mmhybrid.ShardedRunner'
    cfg.model_wrapper_cfg = dict(min_block=args.fsdp)


def _scale_lr(args, cfg):
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise UsageError(
            f'--auto-scale-lr: {name_of(args.config)} has no auto_scale_lr.base_batch_size'
        )
    cfg.auto_scale_lr.enable = True
    # mmengine compares with the batch of one iteration; the step sees those of all accumulated.
    counts = cfg.optim_wrapper.get('accumulative_counts', 1)
    cfg.auto_scale_lr.base_batch_size /= counts


def compile_backbone(runner: 'Runner', backend: str) -> None:
    """Compile the backbone in place: names of weights and everything around it stay."""
    model = getattr(runner.model, 'module', runner.model)
    if not hasattr(model, 'backbone'):
        raise UsageError(f'--compile: {type(model).__name__} has no backbone')
    model.backbone.compile(backend=backend)
