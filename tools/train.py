"""Train a detector, segmentor or classifier: the config's default_scope decides.

    python tools/train.py CONFIG [--work-dir DIR] [--resume [CHECKPOINT]] [--amp]
                          [--cfg-options KEY=VALUE ...] [--launcher pytorch]

Without a GPU it runs on the CPU. Stopped or killed, it goes on with --resume.
"""

import sys

from _common import (
    UsageError,
    add_launcher,
    argument_parser,
    build_runner,
    check_data,
    find,
    load_config,
    run,
)


def parse_args(argv):
    parser = argument_parser('Train a detector, segmentor or classifier.')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint; without a path, from the newest good one in the work dir',
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU'
    )
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size'
    )
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate while training')
    parser.add_argument('--seed', type=int, help='of every random choice')
    add_launcher(parser)
    return parser.parse_args(argv)


def main(argv=None):
    """Train, and return the runner."""
    from mmhybrid.engine import latest_checkpoint, load_weights

    args = parse_args(argv)
    cfg = load_config(args)
    _apply(args, cfg)
    if args.resume == 'auto':
        cfg.load_from = latest_checkpoint(cfg.work_dir)
        if cfg.load_from is None:
            print(f'--resume: no checkpoint in {cfg.work_dir} yet, starting from the beginning')
    elif args.resume:
        cfg.load_from = find(args.resume, 'checkpoint')
    elif cfg.get('load_from') and '://' not in str(cfg.load_from):
        cfg.load_from = find(cfg.load_from, 'checkpoint (load_from)')
    cfg.load_from = str(cfg.load_from) if cfg.get('load_from') else None
    cfg.resume = bool(args.resume and cfg.load_from)
    check_data(cfg, ['train'] if args.no_validate else ['train', 'val'])

    runner = build_runner(cfg)
    if cfg.resume:
        load_weights(runner.model, cfg.load_from)  # a checkpoint of another model ends here
    try:
        runner.train()
    except KeyboardInterrupt:
        last = latest_checkpoint(cfg.work_dir)
        if last is None:
            print(f'\nstopped before the first checkpoint in {cfg.work_dir}', file=sys.stderr)
        else:
            print(f'\nstopped; {last} is complete: go on with --resume', file=sys.stderr)
        raise
    return runner


def _apply(args, cfg):
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper'):
        if cfg.get(key) is None:
            raise UsageError(f'{args.config} has no {key}: it cannot be trained')
    batch_size = cfg.train_dataloader.get('batch_size')
    if batch_size is not None and batch_size < 1:
        raise UsageError(f'train_dataloader.batch_size={batch_size}: expected at least 1')
    for key in ('max_epochs', 'max_iters'):
        if cfg.train_cfg.get(key, 1) < 1:
            raise UsageError(f'train_cfg.{key}={cfg.train_cfg[key]}: expected at least 1')
    checkpoint = cfg.get('default_hooks', {}).get('checkpoint')
    if checkpoint and checkpoint.type == 'CheckpointHook':
        checkpoint.type = 'mmhybrid.AtomicCheckpointHook'
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UsageError(f'--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.seed is not None:
        if args.seed < 0:
            raise UsageError(f'--seed {args.seed}: expected 0 or more')
        cfg.randomness = dict(cfg.get('randomness', {}), seed=args.seed)


if __name__ == '__main__':
    run(lambda: main() and 0)
