"""The config of a command line: read, changed, checked, and fitted to this machine.

``--cfg-options data_root=PATH`` moves every path that the config builds from its top-level
``data_root``.
"""

import argparse
import copy
import difflib
import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import TRACKERS
from .keys import check_nested
from .launch import check_launcher
from .paths import ROOT, find_config
from .usage import UsageError, reading
from .vit import fit_vit

if TYPE_CHECKING:
    from mmengine.config import Config

# Keys of a config that mmengine's runner reads, beside its own arguments.
RUNNER_OPTIONS = {
    'auto_scale_lr',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'runner_type',
    'sync_bn',
    'compile',
}
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


def load_config(args: argparse.Namespace) -> 'Config':
    """The config of the command line: read, changed by --cfg-options, paths resolved, fitted to
    this machine. Nothing is built and no data is read yet, but class names.

    Raises:
        UsageError, DataError: anything in it that cannot work.
    """
    from ..data.fit import KINDS, fit_to_folder
    from ..engine.console import hush_hosts

    hush_hosts()
    cfg, path = _open(args.config)
    scope = cfg.get('default_scope')
    if scope not in SCOPES:
        raise UsageError(
            f'{path} has default_scope={scope!r}, expected one of {", ".join(SCOPES)}; '
            'add the runtime of its host library to its _base_'
        )
    options = dict(args.cfg_options)
    _take_shortcuts(args, cfg, options)
    _check_options(cfg, options, path)
    check_nested(cfg, options, scope)
    if 'data_root' in cfg:
        _move_data(cfg, options.get('data_root', cfg.data_root))
        options.pop('data_root', None)
    with reading('--cfg-options'):
        cfg.merge_from_dict(options)
    if cfg.get('data_preprocessor'):  # mmengine's runner does it too, but not all commands use one
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    if getattr(args, 'weights', None) and 'weights' not in options:
        backbone_of(cfg, '--weights', 'init_cfg').init_cfg = dict(
            type='Pretrained', checkpoint=str(args.weights)
        )
    if getattr(args, 'weights', None):
        check_weights_exist(str(args.weights))
    weights = cfg.get('weights') or getattr(args, 'weights', None)
    fit_vit(cfg, weights or options.get('model.backbone.init_cfg.checkpoint'), options)
    if 'max_iters' in cfg and not KINDS.keys().isdisjoint(cfg):
        check_count('max_iters', cfg.max_iters)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{path.stem}'
    with reading(path):
        fit_to_folder(cfg, validates=not getattr(args, 'no_validate', False))
    # Options that describe the file of weights= or --weights, as position_grid=9,16, stay.
    kept = {k: v for k, v in options.items() if k.startswith('model.backbone.init_cfg.')}
    if isinstance(cfg.get('model', {}).get('backbone', {}).get('init_cfg'), dict):
        cfg.merge_from_dict(
            {k: v for k, v in kept.items() if not k.endswith(('.type', '.checkpoint'))}
        )
    _fit_loaders(cfg)
    cfg.launcher = getattr(args, 'launcher', 'none')
    check_launcher(args, cfg)
    _fit_to_device(cfg, getattr(args, 'amp', None), trains=hasattr(args, 'amp'))
    if getattr(args, 'report', False):
        hooks = list(cfg.get('custom_hooks') or [])
        if all(hook['type'] != 'mmhybrid.ReportHook' for hook in hooks):
            weights = Path(args.checkpoint).name if hasattr(args, 'checkpoint') else None
            cfg.custom_hooks = [*hooks, dict(type='mmhybrid.ReportHook', weights=weights)]
    for name in TRACKERS:
        if getattr(args, name, False):
            _add_tracker(cfg, name)
    return cfg


def _take_shortcuts(args, cfg, options):
    """Put --data and --weights among the options, where the config has keys for them."""
    from ..data.fit import KINDS

    for name, key in (('data', 'data_root'), ('weights', 'weights')):
        value = getattr(args, name, None)
        if value is None:
            continue
        if key in options:
            raise UsageError(f'--{name} {value} and --cfg-options {key}={options[key]}: give one')
        if name == 'weights' and KINDS.keys().isdisjoint(cfg):
            continue  # a complete config: its backbone takes them
        if key in cfg:
            options[key] = str(value)
        elif name == 'data':
            raise UsageError(
                f'--data {value}: the config has no data_root; give the folder of each data set, '
                'as --cfg-options train_dataloader.dataset.data_root=DIR'
            )


def check_weights_exist(given: str) -> None:
    """Raise CheckpointError for what is neither an address, nor a name, nor a file."""
    from ..checkpoints.files import locate
    from ..checkpoints.names import OFFICIAL_FILES

    if ':' not in given and given not in OFFICIAL_FILES:
        locate(given)  # a file: nothing is downloaded


def backbone_of(cfg: 'Config', option: str, argument: str) -> Any:
    """The backbone's config, if its class takes ``argument``.

    Raises:
        UsageError: the model has no backbone, or that no such argument; ``option`` asked for it.
    """
    from mmengine.registry import MODELS, init_default_scope

    node: Any = cfg.model
    while 'backbone' not in node:  # a wrapper, as those of semi-supervised detection
        inner = [v for v in node.values() if isinstance(v, dict) and 'type' in v]
        inner = [v for v in inner if 'backbone' in v]
        if len(inner) != 1:
            raise UsageError(f'{option}: {cfg.model.type} has no backbone')
        node = inner[0]
    init_default_scope(cfg.default_scope)
    kind = MODELS.get(node.backbone.type)
    parameters = inspect.signature(kind.__init__).parameters
    if argument not in parameters:
        raise UsageError(
            f'{option}: {node.backbone.type} has no {argument}; it takes '
            + ', '.join(name for name in parameters if name not in ('self', 'args', 'kwargs'))
        )
    return node.backbone


def name_of(given: Any) -> str:
    """Return what a config is called in messages: its path, if it is one in memory."""
    from mmengine.config import Config

    return given.filename or 'the config' if isinstance(given, Config) else str(given)


def _open(given):
    """A config, and the path that it has, or would have; ``given`` may be a Config already."""
    from mmengine.config import Config

    if isinstance(given, Config):
        return copy.deepcopy(given), Path(given.filename or 'config.py')
    path = find_config(given)
    if path.suffix not in ('.py', '.json', '.yml', '.yaml'):
        raise UsageError(f'{path} is not a config: expected a .py file')
    return read_config(path), path


def read_config(path: Path) -> 'Config':
    """Read a config as it is, without options.

    Raises:
        UsageError: it cannot be read.
    """
    from mmengine.config import Config

    from ..config_files import enable_scope
    from ..engine.console import hush_hosts

    hush_hosts()  # a config may import a host
    enable_scope()
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

    from ..data.fit import KINDS

    live = {*inspect.signature(Runner.__init__).parameters, *RUNNER_OPTIONS}
    live |= {'data_root', *FITTED, *KINDS}
    known = set(cfg) | live
    for key in options:
        head = key.split('.')[0]
        if key == 'vit' and key not in cfg:
            raise UsageError(
                f'--cfg-options vit={options[key]}: {path} does not take any ViT, or is complete, '
                'as the configs saved in work dirs are. Give the config that the training was '
                'started with, or one of *_frozen* in configs'
            )
        if head not in known:
            near = difflib.get_close_matches(head, known, n=1)
            raise UsageError(
                f'--cfg-options {key}=...: the config has no {head!r}'
                + (f', but {near[0]!r}' if near else f'; it has {", ".join(sorted(cfg))}')
            )
        places = [] if '.' in key or key in live else _places(cfg, key)
        if places:
            raise UsageError(
                f'--cfg-options {key}=...: nothing reads {key} when the config is read; change '
                + ', '.join(f'{place}=...' for place in places)
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


def _places(node, name, place=''):
    """Return the places below the top of a config that hold a plain value of a name."""
    found = []
    for key, value in enumerate(node) if isinstance(node, (list, tuple)) else node.items():
        if isinstance(value, (dict, list, tuple)):
            found += _places(value, name, f'{place}{key}.')
        elif key == name and place:
            found.append(f'{place}{key}')
    return found


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


def _add_tracker(cfg, name):
    import importlib.util

    title, kind = TRACKERS[name]
    if importlib.util.find_spec(name) is None:
        raise UsageError(f'--{name}: {title} is not installed; pip install {name}')
    visualizer = cfg.get('visualizer')
    if not visualizer:
        raise UsageError(f'--{name}: the config has no visualizer, which writes the logs')
    backends = list(visualizer.get('vis_backends') or [])
    if any(backend['type'] == kind for backend in backends):
        return
    run = Path(cfg.work_dir).name
    options: dict[str, dict] = dict(
        tensorboard={},
        wandb=dict(init_kwargs=dict(project='mmhybrid', name=run)),
        mlflow=dict(exp_name='mmhybrid', run_name=run, tracking_uri=_mlflow_uri(cfg.work_dir)),
        clearml=dict(init_kwargs=dict(project_name='mmhybrid', task_name=run)),
    )
    visualizer.vis_backends = [*backends, dict(type=kind, **options[name])]


def _mlflow_uri(work_dir):
    """The server that the environment names, else a data base beside the work dir.

    mmengine's own default, a folder of files, is refused by MLflow 3.
    """
    place = Path(work_dir).absolute().parent / 'mlflow.db'
    return os.environ.get('MLFLOW_TRACKING_URI') or f'sqlite:///{place}'


def require(cfg: 'Config', name: str, keys: Sequence[str], purpose: str) -> None:
    """Raise UsageError unless a config has what it takes to be trained or evaluated."""
    for key in keys:
        if cfg.get(key) is None:
            raise UsageError(f'{name} has no {key}: it cannot be {purpose}')


def check_count(name: str, value: Any) -> None:
    """Raise UsageError unless a value is a number of things, 1 or more."""
    if not isinstance(value, (int, float)) or value < 1 or value % 1:
        raise UsageError(f'{name}={value}: expected a whole number, at least 1')
