"""Processes and runners: what a launcher has started, and what runs a model."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .usage import UsageError

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner
    from torch import nn

# Variables by which a launcher tells a process its rank, the number of processes, and its rank on
# its machine.
LAUNCHERS = dict(
    pytorch=('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    mpi=('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK'),
)
STARTS = dict(
    pytorch='torchrun --nproc_per_node 8 -m mmhybrid train CONFIG --launcher pytorch',
    slurm='srun --ntasks 8 python -m mmhybrid train CONFIG --launcher slurm',
    mpi='mpirun -np 8 -x MASTER_ADDR=HOST python -m mmhybrid train CONFIG --launcher mpi',
)


def check_launcher(args: argparse.Namespace, cfg: 'Config') -> None:
    """Raise UsageError unless the launcher has set what a process needs to know."""
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


def build_runner(cfg: 'Config') -> 'Runner':
    """mmengine's runner; synchronised norms become plain ones outside distributed training.

    It does not save the config: an evaluation, or a training that does not begin, would leave
    another one beside that of the checkpoints, or in its place. Its terminal is calm: the config,
    hooks and the options of each parameter are in the log file alone.
    """
    from mmengine.dist import is_distributed
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    from ..engine.console import calm, hush_annotations

    start_processes(cfg)
    if cfg.get('default_scope') == 'mmdet':
        hush_annotations()
    if cfg.get('visualizer'):
        # Under a fixed name a second run in this process would log into the first one's folder.
        cfg.visualizer.pop('name', None)
    dump, build_logger = Runner.dump_config, Runner.build_logger
    Runner.dump_config = lambda runner: None
    Runner.build_logger = lambda *args, **options: calm(build_logger(*args, **options))
    try:
        runner = RUNNERS.build(cfg)  # mmengine's, unless the config has another runner_type
    finally:
        Runner.dump_config, Runner.build_logger = dump, build_logger
    if not is_distributed():
        runner.model = revert_sync_batchnorm(runner.model).to(
            next(runner.model.parameters()).device
        )
    return runner


def rank_of(cfg: 'Config') -> int:
    """The number of this process, as its launcher gave it; 0 of one that runs alone."""
    launcher = cfg.get('launcher', 'none')
    return 0 if launcher == 'none' else int(os.environ[LAUNCHERS[launcher][0]])


def start_processes(cfg: 'Config') -> None:
    """Join the other processes that the launcher started, if there are any and it is not done."""
    from mmengine.device import get_device
    from mmengine.dist import init_dist, is_distributed
    from mmengine.utils.dl_utils import set_multi_processing

    if cfg.get('launcher', 'none') == 'none' or is_distributed():
        return
    if get_device() == 'cpu':
        _start_on_cpus(cfg)  # mmengine's own start would set a GPU
        return
    environment = cfg.get('env_cfg', {})  # as mmengine's runner does it, in its order
    set_multi_processing(**environment.get('mp_cfg', {}), distributed=True)
    init_dist(cfg.launcher, **environment.get('dist_cfg', {}))


def _start_on_cpus(cfg):
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


def load_model(
    model: 'nn.Module', path: Path, options: Iterable[str] = (), precision: str = 'f32'
) -> dict:
    """Load a checkpoint into a model, or let it run from an exported file.

    Args:
        model: of the config.
        path: of the checkpoint or file.
        options: names of those that the user changed in the config.
        precision: in which an exported file computes, of :func:`mmhybrid.deploy.load_exported`.

    Returns:
        dict: what the file says of the data it was trained on: ``classes``, ``palette``.

    Raises:
        CheckpointError, ExportError: the file is bad, or of another model.
        UsageError: an exported detector holds final results, which no option of the model changes.
    """
    from ..deploy import load_exported, run_exported
    from ..deploy.errors import FORMATS
    from ..engine import load_trained

    if path.suffix in FORMATS:
        exported = load_exported(path, precision=precision)
        run_exported(model, exported)
        changes = [name for name in options if name.startswith('model.')]
        if changes and exported.meta['kind'] == 'detector' and exported.meta.get('results'):
            raise UsageError(
                f'--cfg-options {changes[0]}: {path} holds the model with its thresholds, as '
                'exported; give the option to mmhybrid export'
            )
        return {'classes': exported.meta['classes']}
    meta = load_trained(model, path).get('dataset_meta') or {}
    return {key.lower(): value for key, value in meta.items()}
