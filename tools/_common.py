"""Common parts of train.py, test.py and infer.py: arguments, the config and its checks, runners.

Paths. A config, a checkpoint, and the relative paths inside a config are looked up in the current
directory first, then in the repository. ``--cfg-options data_root=PATH`` moves every path that the
config builds from its top-level ``data_root``.
"""

import argparse
import difflib
import inspect
import os
from pathlib import Path

from _usage import ROOT, KeyValues, UsageError, reading

# What each launcher tells a process about itself: rank, number of processes, rank on its machine.
LAUNCHERS = dict(
    pytorch=('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    mpi=('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
)
STARTS = dict(
    pytorch='torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch',
    slurm='srun --ntasks 8 python tools/train.py CONFIG --launcher slurm',
    mpi='mpirun -np 8 -x MASTER_ADDR=HOST python tools/train.py CONFIG --launcher mpi',
)
# What mmengine's runner reads from a config, beside its own arguments.
RUNNER_OPTIONS = {
    'auto_scale_lr',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
    'compile',
}
CHECKPOINT = 'checkpoint of the same config, its exported file, or a work dir: its best checkpoint'
SCOPES = ('mmdet', 'mmseg', 'mmpretrain')
# Options of configs of your own data, read when they are fitted to the folder (and no more when
# that is done), with the place of each, where it has one.
FITTED = dict(
    max_iters='train_cfg.max_iters',
    weights='model.backbone.init_cfg',
    image_size=None,
    crop_size=None,
    classes=None,
    palette=None,
    ignore_index=None,
    reduce_zero_label=None,
)


def argument_parser(description):
    """The arguments that all tools have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file; its default_scope names the host library')
    parser.add_argument('--work-dir', help='folder of logs and results')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValues,
        default={},
        metavar='KEY=VALUE',
        help='change the config: data_root=/data/coco train_dataloader.batch_size=1',
    )
    return parser


def add_launcher(parser):
    """The arguments of the tools that run the host's Runner."""
    parser.add_argument(
        '--report', action='store_true', help='write WORK_DIR/report.html at the end'
    )
    parser.add_argument('--tensorboard', action='store_true', help='write TensorBoard logs too')
    group = parser.add_argument_group('several processes')
    group.add_argument(
        '--launcher',
        choices=['none', *LAUNCHERS],
        default='none',
        help='what started the processes: torchrun is pytorch, srun is slurm, mpirun is mpi',
    )
    group.add_argument(
        '--dist-timeout',
        type=int,
        metavar='SECONDS',
        help='how long a process waits for the others before it ends with an error',
    )
    # torch.distributed.launch passes this; torchrun sets the variable itself.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def find(path, what):
    """A path given by the user: in the current directory, else in the repository."""
    for candidate in (Path(path), ROOT / path):
        if candidate.exists():
            return candidate
    folder = Path(path).parent if Path(path).parent.is_dir() else ROOT / Path(path).parent
    names = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    near = difflib.get_close_matches(Path(path).name, names, n=3)
    raise UsageError(
        f'{what} not found: {path} (looked in {Path.cwd()} and {ROOT})'
        + (f'; did you mean {" or ".join(near)}?' if near else '')
    )


def find_checkpoint(path, what='checkpoint', best=True):
    """A checkpoint given by the user; of a work dir the best one (if asked), else the newest."""
    from mmhybrid.engine import latest_checkpoint

    path = find(path, what)
    if not path.is_dir():
        return path
    files = path.glob('best_*.pth') if best else ()
    files = sorted(files, key=lambda file: file.stat().st_mtime_ns)
    found = files[-1] if files else latest_checkpoint(path)
    if found is None:
        raise UsageError(f'{path} holds no checkpoint: has its training come to the first one?')
    print(f'checkpoint: {found}')
    return found


def load_config(args):
    """The config of the command line: read, changed by --cfg-options, paths resolved, fitted to
    this machine. Nothing is built and no data is read yet, but class names.

    Raises:
        UsageError, DataError: anything in it that cannot work.
    """
    from mmhybrid.config_files import enable_scope
    from mmhybrid.data.fit import KINDS, fit_to_folder

    path = find(args.config, 'config')
    if path.suffix not in ('.py', '.json', '.yml', '.yaml'):
        raise UsageError(f'{path} is not a config: expected a .py file')
    enable_scope()
    cfg = _read(path)
    scope = cfg.get('default_scope')
    if scope not in SCOPES:
        raise UsageError(
            f'{path} has default_scope={scope!r}, expected one of {", ".join(SCOPES)}; '
            'add the runtime of its host library to its _base_'
        )
    options = dict(args.cfg_options)
    _check_options(cfg, options, path)
    if 'data_root' in cfg:
        _move_data(cfg, options.get('data_root', cfg.data_root))
        options.pop('data_root', None)
    with reading('--cfg-options'):
        cfg.merge_from_dict(options)
    if 'max_iters' in cfg and not KINDS.keys().isdisjoint(cfg):
        check_count('max_iters', cfg.max_iters)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{path.stem}'
    with reading(path):
        fit_to_folder(cfg)
    _fit_loaders(cfg)
    cfg.launcher = getattr(args, 'launcher', 'none')
    _check_launcher(args, cfg)
    _fit_to_device(cfg, getattr(args, 'amp', None), trains=hasattr(args, 'amp'))
    if getattr(args, 'report', False):
        hooks = list(cfg.get('custom_hooks') or [])
        if all(hook['type'] != 'mmhybrid.ReportHook' for hook in hooks):
            weights = Path(args.checkpoint).name if hasattr(args, 'checkpoint') else None
            cfg.custom_hooks = [*hooks, dict(type='mmhybrid.ReportHook', weights=weights)]
    if getattr(args, 'tensorboard', False):
        _add_tensorboard(cfg)
    return cfg


def _check_launcher(args, cfg):
    if cfg.launcher == 'none':
        if int(os.environ.get('WORLD_SIZE', 1)) > 1 and 'TORCHELASTIC_RUN_ID' in os.environ:
            raise UsageError(
                f'torchrun started {os.environ["WORLD_SIZE"]} processes, each of which would do '
                'the same alone: add --launcher pytorch'
            )
        return
    if cfg.launcher == 'pytorch':  # torch.distributed.launch may give it as an argument
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    missing = [name for name in LAUNCHERS[cfg.launcher] if name not in os.environ]
    if cfg.launcher == 'mpi' and 'MASTER_ADDR' not in os.environ:
        missing.append('MASTER_ADDR')
    if missing:
        raise UsageError(
            f'--launcher {cfg.launcher}: {", ".join(missing)} not set, as the launcher would have '
            f'done. Start with: {STARTS[cfg.launcher]}'
        )
    restarts = int(os.environ.get('TORCHELASTIC_MAX_RESTARTS', 0))
    if restarts > 0 and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True':
        # https://github.com/pytorch/pytorch/issues/135712, still there in torch 2.12
        raise UsageError(
            f'torchrun --max-restarts={restarts} keeps the addresses of processes that are dead, '
            'so that those it starts again wait for them. Let it forget them: '
            'TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --standalone ..., on several machines '
            '--rdzv_backend c10d --rdzv_endpoint HOST:29500 in the place of --standalone'
        )
    os.environ['LOCAL_RANK'] = os.environ[LAUNCHERS[cfg.launcher][2]]  # mmengine forgets mpi's
    if args.dist_timeout is not None:
        if args.dist_timeout < 1:
            raise UsageError(f'--dist-timeout {args.dist_timeout}: expected at least 1 second')
        cfg.merge_from_dict({'env_cfg.dist_cfg.timeout': args.dist_timeout})


def _add_tensorboard(cfg):
    import importlib.util

    if importlib.util.find_spec('tensorboard') is None:
        raise UsageError('--tensorboard: it is not installed; pip install tensorboard')
    visualizer = cfg.get('visualizer')
    if not visualizer:
        raise UsageError('--tensorboard: the config has no visualizer, which writes the logs')
    backends = list(visualizer.get('vis_backends') or [])
    if all(backend['type'] != 'TensorboardVisBackend' for backend in backends):
        visualizer.vis_backends = [*backends, dict(type='TensorboardVisBackend')]


def require(cfg, name, keys, purpose):
    """Raise UsageError unless a config has what it takes to be trained or evaluated."""
    for key in keys:
        if cfg.get(key) is None:
            raise UsageError(f'{name} has no {key}: it cannot be {purpose}')


def check_count(name, value):
    """Raise UsageError unless a value is a number of things, 1 or more."""
    if not isinstance(value, (int, float)) or value < 1 or value % 1:
        raise UsageError(f'{name}={value}: expected a whole number, at least 1')


def _read(path):
    from mmengine.config import Config

    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is a program, which can fail in any way
        line = getattr(error, 'lineno', None)
        where = f' in line {line}' if line else ''
        reason = getattr(error, 'msg', None) or str(error)
        raise UsageError(
            f'config {path} cannot be read, {type(error).__name__}{where}: {reason}'
        ) from error


def _check_options(cfg, options, path):
    from mmengine.runner import Runner

    from mmhybrid.data.fit import KINDS

    known = set(cfg) | set(inspect.signature(Runner.__init__).parameters) | RUNNER_OPTIONS
    for key in options:
        head = key.split('.')[0]
        if head not in known:
            near = difflib.get_close_matches(head, known, n=1)
            raise UsageError(
                f'--cfg-options {key}=...: the config has no {head!r}'
                + (f', but {near[0]!r}' if near else f'; it has {", ".join(sorted(cfg))}')
            )
        if key in FITTED and KINDS.keys().isdisjoint(cfg):
            place = FITTED[key] or 'every place where it stands'
            raise UsageError(
                f'--cfg-options {key}=...: {path} is complete, as the configs saved in work dirs '
                f'are, and nothing reads its {key} any more. Give the config that the training was '
                f'started with, or change {place}'
            )
        if isinstance(cfg.get(key), dict) and type(options[key]) in (int, float, str):
            raise UsageError(
                f'--cfg-options {key}={options[key]}: it has several entries, expected one of them '
                f'as {key}.NAME=...: {", ".join(cfg[key])}'
            )


def _move_data(cfg, new):
    """Put ``new`` in the place of ``cfg.data_root``, at the start of every path in the config."""
    old, new = str(cfg.data_root).rstrip('/'), str(new).rstrip('/') or '/'
    if not Path(new).exists() and (ROOT / new).exists():
        new = str(ROOT / new)

    def moved(value):
        if isinstance(value, str) and (value.rstrip('/') == old or value.startswith(old + '/')):
            return new + value[len(old) :].rstrip('/')
        return value

    def walk(node):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in list(pairs):
            if isinstance(value, (dict, list)):
                walk(value)
            else:
                node[key] = moved(value)

    for key in list(cfg):
        if isinstance(cfg[key], (dict, list)):
            walk(cfg[key])
        else:
            cfg[key] = moved(cfg[key])


def _fit_loaders(cfg):
    """Without processes that load, torch refuses the options that are about them."""
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader and not loader.get('num_workers'):
            for name in ('persistent_workers', 'prefetch_factor', 'timeout'):
                loader.pop(name, None)


def _fit_to_device(cfg, amp, trains):
    from mmengine.device import get_device

    on_cpu = get_device() == 'cpu'
    if on_cpu and cfg.get('env_cfg', {}).get('dist_cfg', {}).get('backend') == 'nccl':
        cfg.env_cfg.dist_cfg.backend = 'gloo'
    if on_cpu and cfg.launcher != 'none':
        # On CPUs a model has no device of its own, and norms have no partners.
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
        _replace_norms(cfg.model)
    wrapper = cfg.get('optim_wrapper')
    if not wrapper:
        return
    if amp:
        _mix_precision(wrapper, amp, on_cpu)
    elif on_cpu and wrapper.get('type') == 'AmpOptimWrapper':
        if trains:
            print('no GPU: training in float32 (--amp: in bfloat16)')
        wrapper.type = 'OptimWrapper'
    if on_cpu or amp == 'bf16':
        for key in ('loss_scale', 'dtype'):
            wrapper.pop(key, None)


def _mix_precision(wrapper, amp, on_cpu):
    import torch

    if on_cpu:
        if amp == 'fp16':
            raise UsageError('--amp fp16: there is no GPU here; a CPU takes --amp bf16')
        amp = 'bf16'
    elif amp == 'bf16' and not torch.cuda.is_bf16_supported():
        raise UsageError(
            f'--amp bf16: {torch.cuda.get_device_name()} has no bfloat16; use --amp fp16'
        )
    if amp == 'bf16':
        wrapper.type = 'mmhybrid.Bf16OptimWrapper'
        return
    wrapper.type = 'AmpOptimWrapper'
    if amp == 'fp16' or 'loss_scale' not in wrapper:
        wrapper.dtype = 'float16' if amp == 'fp16' else wrapper.get('dtype', 'float16')
        wrapper.setdefault('loss_scale', 'dynamic')


def _replace_norms(node):
    """Plain batch norms for synchronised ones, which run on GPUs only."""
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, (dict, list, tuple)):
            _replace_norms(value)
    if isinstance(node, dict) and node.get('type') == 'SyncBN':
        node['type'] = 'BN'


@reading('the config')
def check_data(cfg, splits):
    """Files and class names of the data sets of ``splits`` (train, val, test).

    Raises:
        UsageError, DataError: the first thing missing or not matching.
    """
    from mmengine.registry import DATASETS, DefaultScope, init_default_scope

    from mmhybrid.data.coco import check_class_names

    if DefaultScope.get_current_instance() is None:
        init_default_scope(cfg.default_scope)
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for dataset in _leaf_datasets(loader['dataset'] if loader else None):
            root = dataset.get('data_root') or ''
            if '://' in root or (
                dataset['type'].split('.')[-1].startswith('CIFAR') and dataset.get('download', True)
            ):  # what is fetched need not be there
                continue
            if root and not Path(root).is_dir():
                hint = (
                    'draw it with: python -m mmhybrid.data.demo ' + root
                    if Path(root).name == 'demo'
                    else 'give its place with --cfg-options ' + _data_options(cfg, root)
                )
                raise UsageError(f'data root of {split} not found: {root}; {hint}')
            annotations = dataset.get('ann_file')
            if annotations and '://' not in annotations:
                path = Path(root, annotations)
                if not path.exists():
                    raise UsageError(
                        f'annotation file of {split} not found: {path}; {root or "."} holds '
                        + ', '.join(sorted(p.name for p in Path(root or '.').iterdir())[:8])
                    )
            prefix = dataset.get('data_prefix') or {}
            prefix = dict(img=prefix) if isinstance(prefix, str) else prefix
            for folder in prefix.values():
                if folder and not Path(root, folder).is_dir():
                    raise UsageError(f'image folder of {split} not found: {Path(root, folder)}')
            if dataset['type'].split('.')[-1] == 'CocoDataset':
                classes = (dataset.get('metainfo') or {}).get('classes')
                if classes is None:
                    with _scope(cfg.default_scope):
                        classes = DATASETS.get(f'{cfg.default_scope}.CocoDataset').METAINFO[
                            'classes'
                        ]
                check_class_names(classes, path)
                _check_class_count(cfg.model, classes)


def _data_options(cfg, root):
    """The options that move a data root."""
    moved = str(cfg.get('data_root') or '').rstrip('/')
    if moved and (root.rstrip('/') == moved or root.startswith(moved + '/')):
        return 'data_root=PATH'
    places = []

    def walk(node, place):
        if isinstance(node, dict):
            if node.get('data_root') == root:
                places.append(f'{place}.data_root=PATH')
            for key, value in node.items():
                walk(value, f'{place}.{key}')
        elif isinstance(node, (list, tuple)):
            for index, value in enumerate(node):
                walk(value, f'{place}.{index}')

    for split in ('train', 'val', 'test'):
        walk(cfg.get(f'{split}_dataloader'), f'{split}_dataloader')
    return ' '.join(places)


def _scope(name):
    from mmengine.registry import DefaultScope

    return DefaultScope.overwrite_default_scope(name)


def _leaf_datasets(dataset):
    if dataset is None:
        return []
    if 'datasets' in dataset:
        return [leaf for part in dataset['datasets'] for leaf in _leaf_datasets(part)]
    if 'dataset' in dataset:
        return _leaf_datasets(dataset['dataset'])
    return [dataset]


def _check_class_count(node, classes, name='model'):
    if isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            _check_class_count(value, classes, f'{name}[{i}]')
    elif isinstance(node, dict):
        count = node.get('num_classes', len(classes))
        if count != len(classes):
            raise UsageError(
                f'{name}.num_classes={count}, but the data has {len(classes)} classes: '
                + ', '.join(classes)
            )
        for key, value in node.items():
            if key not in ('semantic_head', 'backbone'):  # they may count other classes
                _check_class_count(value, classes, f'{name}.{key}')


def load_model(model, path):
    """Load a checkpoint into a model, or let it run from an exported file.

    Returns:
        dict: what the file says of the data it was trained on: ``classes``, ``palette``.

    Raises:
        CheckpointError, ExportError: the file is bad, or of another model.
    """
    from mmhybrid.deploy import load_exported, run_exported
    from mmhybrid.deploy.errors import FORMATS
    from mmhybrid.engine import load_trained

    if path.suffix in FORMATS:
        exported = load_exported(path)
        run_exported(model, exported)
        return {'classes': exported.meta['classes']}
    meta = load_trained(model, path).get('dataset_meta') or {}
    return {key.lower(): value for key, value in meta.items()}


def build_runner(cfg):
    """mmengine's runner; synchronised norms become plain ones outside distributed training.

    It does not save the config: an evaluation, or a training that does not begin, would leave
    another one beside that of the checkpoints, or in its place.
    """
    from mmengine.device import get_device
    from mmengine.dist import is_distributed
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    if cfg.launcher != 'none' and get_device() == 'cpu' and not is_distributed():
        _start_processes(cfg)  # mmengine's own start would set a GPU
    if cfg.get('visualizer'):
        # Under a fixed name a second run in this process would log into the first one's folder.
        cfg.visualizer.pop('name', None)
    dump, Runner.dump_config = Runner.dump_config, lambda runner: None
    try:
        runner = RUNNERS.build(cfg)  # mmengine's, unless the config has another runner_type
    finally:
        Runner.dump_config = dump
    if not is_distributed():
        runner.model = revert_sync_batchnorm(runner.model).to(
            next(runner.model.parameters()).device
        )
    return runner


def _start_processes(cfg):
    """Join the other processes, on CPUs."""
    import subprocess
    from datetime import timedelta

    import torch

    rank, world_size, _ = (os.environ[name] for name in LAUNCHERS[cfg.launcher])
    if cfg.launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        names = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
        hosts = subprocess.run(names, capture_output=True, text=True, check=True).stdout
        os.environ['MASTER_ADDR'] = hosts.split()[0]
    os.environ.setdefault('MASTER_PORT', '29500')
    timeout = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout', 1800)
    torch.distributed.init_process_group(
        'gloo', rank=int(rank), world_size=int(world_size), timeout=timedelta(seconds=timeout)
    )
