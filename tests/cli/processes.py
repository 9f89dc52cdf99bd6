"""Processes that are forked from one in which the libraries are imported already.

A process of its own takes 6 to 10 s until it has imported them.
"""

import multiprocessing
import os
import signal
import socket
from pathlib import Path
from unittest import mock

import pytest
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from .faults import at_iteration, send

ROOT = Path(__file__).parents[2]
PRELOADED = ['mmhybrid.cli.train', 'mmhybrid.lora', 'mmdet.apis', 'mmseg.apis', 'mmpretrain.apis']
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def context():
    """multiprocessing's server of forks; it starts with the first process."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    return multiprocessing.get_context('forkserver')


def torchrun(function, *args, log_dir, max_restarts=0, timeout=600):
    """Call a function in two processes as `torchrun --standalone --nproc_per_node 2` does.

    The test fails, and the processes are ended, after ``timeout`` seconds.

    Returns:
        what they wrote to stdout, also those that were started again.
    """

    def expire(number, frame):
        pytest.fail(f'the two processes have not ended in {timeout} s; their logs: {log_dir}')

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        max_restarts=max_restarts,
        run_id='two',
        rdzv_backend='c10d',
        rdzv_endpoint='localhost:0',
        start_method='forkserver',
        logs_specs=DefaultLogsSpecs(str(log_dir), redirects=Std.ALL),
    )
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])
    environment = dict(TORCH_DISABLE_SHARE_RDZV_TCP_STORE='1', PYTHONPATH=path)
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, expire)
    context()
    signal.alarm(timeout)
    try:
        with mock.patch.dict(os.environ, environment):
            elastic_launch(config, function)(*args)
    finally:
        signal.alarm(0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return ''.join(path.read_text() for path in sorted(log_dir.rglob('stdout.log')))


def srun(function, *args, folder):
    """Start a function in two processes as `srun --ntasks 2` does.

    Returns:
        the processes; what they write is in ``folder``, in log0 and log1.
    """
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    shared = dict(SLURM_NTASKS='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    processes = []
    for rank in ('0', '1'):
        environment = dict(shared, SLURM_PROCID=rank, SLURM_LOCALID=rank)
        arguments = (environment, folder / f'log{rank}', function, args)
        processes.append(context().Process(target=_command, args=arguments))
        processes[-1].start()
    return processes


def _command(environment, log, function, args):
    """Call a function as the program calls that of a command."""
    from mmhybrid.cli.usage import run

    os.environ.update(environment)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    run(lambda: function(*args))


# ---------------------------------------------------------------------------- what they call


def train(arguments, fault=None):
    """Train; something happens to one of the processes.

    Args:
        fault: rank, restarts, iteration and signal: the process of that rank gets the signal when
            that iteration begins, if torchrun has restarted the processes that many times.
    """
    from mmhybrid.cli.train import main

    if fault:
        rank, restarts, iteration, number = fault
        here = os.environ.get('RANK', os.environ.get('SLURM_PROCID'))
        if (here, os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')) == (str(rank), str(restarts)):
            at_iteration(iteration, send(number))()
    main(arguments)


def look_at_data(arguments, missing):
    """Call `check_data`; say who reads, and what is raised.

    Args:
        missing: the rank of a process that does not find the data, or None.
    """
    from mmhybrid.cli.arguments import argument_parser
    from mmhybrid.cli.config import load_config
    from mmhybrid.cli.datasets import check_data
    from mmhybrid.data import before

    rank = int(os.environ['RANK'])
    original = before.look_at_coco

    def look(*args, **kwargs):
        print(f'process {rank} reads', flush=True)
        return original(*args, **kwargs)

    before.look_at_coco = look
    args = argument_parser('').parse_args(arguments)
    args.launcher, args.local_rank, args.dist_timeout = 'pytorch', 0, None
    cfg = load_config(args)
    if rank == missing:
        cfg.train_dataloader.dataset.data_root = 'nowhere'
    try:
        check_data(cfg, ['train'])
    except ValueError as error:
        print(f'process {rank} raises {type(error).__name__}: {error}', flush=True)
