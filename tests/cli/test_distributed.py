"""Two processes on a CPU, as torchrun and srun start them."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmhybrid.engine import latest_checkpoint

from .faults import state_of

TRAIN = Path(__file__).parents[2] / 'tools/train.py'
FAULTY = Path(__file__).with_name('faulty_train.py')


@pytest.mark.skipif(torch.cuda.is_available(), reason='two processes want two GPUs here')
def test_two_processes_train_and_evaluate(job, tmp_path):
    config, options = job('mmdet')
    Path(config).write_text(
        Path(config).read_text() + "\nmodel['backbone']['norm_cfg'] = dict(type='SyncBN')\n"
    )
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    command += [str(TRAIN), config, '--launcher', 'pytorch', '--work-dir', str(tmp_path / 'work')]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'coco/segm_mAP' in done.stdout + done.stderr
    state = torch.load(tmp_path / 'work/epoch_1.pth', weights_only=False)['state_dict']
    assert not [name for name in state if name.startswith('module.')]


def plain_sgd(job, *options):
    """A job in which two processes and one with the batch of both do the same sums."""
    return job(
        'mmpretrain',
        'model.backbone.norm_cfg.type=GN',
        'model.backbone.norm_cfg.num_groups=4',
        'optim_wrapper.optimizer._delete_=True',
        'optim_wrapper.optimizer.type=SGD',
        'optim_wrapper.optimizer.lr=0.02',
        'optim_wrapper.optimizer.momentum=0.9',
        'param_scheduler=None',
        'find_unused_parameters=True',  # the coarsest map alone is classified
        'train_cfg.max_epochs=2',
        *options,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason='two processes want two GPUs here')
@pytest.mark.parametrize('sharding', [[], ['--fsdp', '1000']], ids=['ddp', 'fsdp'])
def test_a_killed_process_is_restarted_and_all_is_as_in_one(sharding, job, tool, tmp_path):
    config, options = plain_sgd(job, 'train_dataloader.batch_size=2')
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    command += ['--max-restarts=1', str(FAULTY), config, '--launcher', 'pytorch', '--resume']
    command += ['--no-validate', '--seed', '1', '--work-dir', str(tmp_path / 'two')]
    done = subprocess.run(
        [*command, *sharding, *options],
        capture_output=True,
        text=True,
        timeout=600,
        env=dict(os.environ, FAULT='1,0,8,SIGKILL', TORCH_DISABLE_SHARE_RDZV_TCP_STORE='1'),
    )
    log = done.stdout + done.stderr
    assert done.returncode == 0, log[-3000:]
    assert 'no checkpoint in' in log and 'resumed epoch: 1, iter: 6' in log
    two = state_of(tmp_path / 'two/epoch_2.pth')

    def in_one(name, *arguments, batch=4, seed=1):
        config, options = plain_sgd(job, f'train_dataloader.batch_size={batch}')
        arguments = [config, '--no-validate', '--seed', str(seed), *arguments]
        tool('train').main([*arguments, '--work-dir', name, *options])
        return state_of(tmp_path / name / 'epoch_2.pth')

    # Two halves of a batch are added up in another order than one whole.
    one = in_one('one')
    torch.testing.assert_close(two['state_dict'], one['state_dict'], rtol=0, atol=5e-6)
    torch.testing.assert_close(two['optimizer'], one['optimizer'], rtol=0, atol=1e-4)
    if not sharding:
        added = in_one('accumulated', '--accumulate', '2', batch=2)
        torch.testing.assert_close(added['state_dict'], one['state_dict'], rtol=0, atol=5e-6)
        other = in_one('other', seed=2)['state_dict']['head.fc.weight']
        assert (other - one['state_dict']['head.fc.weight']).abs().max() > 1e-3


@pytest.mark.skipif(torch.cuda.is_available(), reason='two processes want two GPUs here')
def test_processes_that_srun_started_stop_together_and_notice_one_that_hangs(job, tmp_path):
    config, options = plain_sgd(job, 'train_dataloader.batch_size=2')
    command = [sys.executable, str(FAULTY), config, '--launcher', 'slurm', '--dist-timeout', '20']
    command += ['--resume', '--no-validate', '--work-dir', str(tmp_path / 'work'), *options]

    def start(fault):
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        shared = dict(SLURM_NTASKS='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), FAULT=fault)
        processes = []
        for rank in ('0', '1'):
            ranks = dict(SLURM_PROCID=rank, SLURM_LOCALID=rank)
            with open(tmp_path / f'log{rank}', 'w') as log:
                processes.append(
                    subprocess.Popen(
                        command,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env=os.environ | shared | ranks,
                    )
                )
        return processes

    def log(rank):
        return (tmp_path / f'log{rank}').read_text()

    processes = start('1,0,1,SIGUSR1')
    codes = [process.wait(timeout=600) for process in processes]
    assert codes == [128 + signal.SIGUSR1] * 2, log(0)[-3000:]
    assert 'stopped by SIGUSR1 after 2 iterations' in log(0)

    processes = start('1,0,4,SIGSTOP')
    try:
        assert processes[0].wait(timeout=600) == 1
    finally:
        processes[1].kill()
        processes[1].wait()
    assert 'resumed epoch: 0, iter: 2' in log(0)
    assert 'error: process 0 of 2 lost the others after iteration' in log(0)
    assert [p.name for p in (tmp_path / 'work').glob('*.pth*')] == ['stopped_iter_2.pth']
    assert latest_checkpoint(tmp_path / 'work') is not None
