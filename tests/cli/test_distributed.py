"""Two processes on a CPU, as torchrun and srun start them."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmhybrid.cli import train
from mmhybrid.engine import latest_checkpoint, read_checkpoint
from mmhybrid.lora import is_of_lora
from mmhybrid.models.backbones import ViT

from . import processes
from .conftest import CONFIGS
from .faults import state_of
from .processes import srun, torchrun

TRAIN = Path(__file__).parents[2] / 'tools/train.py'
TWO = pytest.mark.skipif(torch.cuda.is_available(), reason='two processes want two GPUs here')


@TWO
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


def train_in_one(job, name, *arguments, batch=4, seed=1):
    """The same in one process, with the batch of both; return its last checkpoint."""
    config, options = plain_sgd(job, f'train_dataloader.batch_size={batch}')
    arguments = [config, '--no-validate', '--seed', str(seed), *arguments]
    train.main([*arguments, '--work-dir', str(name), *options])
    return state_of(name / 'epoch_2.pth')


@pytest.fixture(scope='module')
def one(job, tmp_path_factory):
    return train_in_one(job, tmp_path_factory.mktemp('one'))


@TWO
@pytest.mark.parametrize('sharding', [[], ['--fsdp', '1000']], ids=['ddp', 'fsdp'])
def test_a_killed_process_is_restarted_and_all_is_as_in_one(sharding, job, one, tmp_path):
    config, options = plain_sgd(job, 'train_dataloader.batch_size=2')
    arguments = [config, '--launcher', 'pytorch', '--resume', '--no-validate', '--seed', '1']
    arguments += ['--work-dir', str(tmp_path / 'two'), *sharding, *options]
    fault = (1, 0, 8, signal.SIGKILL)
    log = torchrun(processes.train, arguments, fault, log_dir=tmp_path / 'logs', max_restarts=1)
    assert 'no checkpoint in' in log and 'resumed epoch: 1, iter: 6' in log
    two = state_of(tmp_path / 'two/epoch_2.pth')
    # Two halves of a batch are added up in another order than one whole.
    torch.testing.assert_close(two['state_dict'], one['state_dict'], rtol=0, atol=5e-6)
    torch.testing.assert_close(two['optimizer'], one['optimizer'], rtol=0, atol=1e-4)


def test_accumulated_batches_are_as_one(job, one, tmp_path):
    added = train_in_one(job, tmp_path / 'added', '--accumulate', '2', batch=2)
    torch.testing.assert_close(added['state_dict'], one['state_dict'], rtol=0, atol=5e-6)
    other = train_in_one(job, tmp_path / 'other', seed=2)['state_dict']['head.fc.weight']
    assert (other - one['state_dict']['head.fc.weight']).abs().max() > 1e-3


@TWO
def test_processes_that_srun_started_stop_together_and_notice_one_that_hangs(job, tmp_path):
    config, options = plain_sgd(job, 'train_dataloader.batch_size=2')
    arguments = [config, '--launcher', 'slurm', '--dist-timeout', '8', '--resume']
    arguments += ['--no-validate', '--work-dir', str(tmp_path / 'work'), *options]

    def log(rank):
        return (tmp_path / f'log{rank}').read_text()

    one, other = srun(processes.train, arguments, (1, 0, 1, signal.SIGUSR1), folder=tmp_path)
    for process in (one, other):
        process.join(timeout=600)
        assert process.exitcode == 128 + signal.SIGUSR1, log(0)[-3000:]
    assert 'stopped by SIGUSR1 after 2 iterations' in log(0)

    one, other = srun(processes.train, arguments, (1, 0, 4, signal.SIGSTOP), folder=tmp_path)
    try:
        one.join(timeout=600)
        assert one.exitcode == 1, log(0)[-3000:]
    finally:
        other.kill()
        other.join()
    assert 'resumed epoch: 0, iter: 2' in log(0)
    assert 'error: process 0 of 2 lost the others after iteration' in log(0)
    assert [p.name for p in (tmp_path / 'work').glob('*.pth*')] == ['stopped_iter_2.pth']
    assert latest_checkpoint(tmp_path / 'work') is not None


@TWO
@pytest.mark.parametrize('missing', [None, 1])
def test_one_of_two_processes_reads_and_both_raise(missing, data, tmp_path):
    root = shutil.copytree(data, tmp_path / 'demo')
    file = root / 'annotations/instances_train.json'
    content = json.loads(file.read_text())
    for row in content['annotations']:
        row['iscrowd'] = 1
    file.write_text(json.dumps(content))
    arguments = [str(CONFIGS / 'retinanet_cmt_ti_custom.py'), '--cfg-options', f'data_root={root}']
    said = torchrun(processes.look_at_data, arguments, missing, log_dir=tmp_path / 'logs')
    assert re.findall(r'process (\d) reads', said) == ['0']
    found = 'train: none of|data root of train not found: nowhere'
    raised = dict(re.findall(rf'process (\d) raises UsageError: ({found})', said))
    lacking = 'train: none of' if missing is None else 'data root of train not found: nowhere'
    assert raised == {'0': 'train: none of', '1': lacking}


@TWO
def test_lora_with_all_weights_and_with_parts(job, tmp_path):
    pytest.importorskip('peft')
    torch.manual_seed(1)
    arch = dict(embed_dims=24, depth=4, num_heads=2, class_token=False, layer_scale=1.0)
    torch.save(ViT(arch).state_dict(), tmp_path / 'vit.pth')
    config, options = job('mmpretrain', 'model.backbone.out_indices=[3]')
    arguments = [config, '--launcher', 'pytorch', '--work-dir', str(tmp_path / 'work')]
    arguments += ['--lora', '2', '--weights', str(tmp_path / 'vit.pth'), '--no-validate', *options]
    for added in ([], ['train_cfg.max_epochs=2', '--resume', '--fsdp', '1000']):
        log = torchrun(processes.train, [*arguments, *added], log_dir=tmp_path / 'logs')
        # mmengine logs what it cannot load, and goes on.
        assert 'Epoch(train)' in log
        assert 'do not match' not in log and 'copying the parameter' not in log
    one, other = (read_checkpoint(tmp_path / f'work/epoch_{i}.pth')['state_dict'] for i in (1, 2))
    assert not [name for name in other if '.vit.' in name and not is_of_lora(name)]
    changed = [name for name in other if not torch.equal(one[name], other[name])]
    assert any('.lora_A.' in name for name in changed)
    assert one.keys() == other.keys()


def test_processes_that_hang_fail_their_test(tmp_path):
    with pytest.raises(pytest.fail.Exception, match='have not ended in 1 s'):
        torchrun(signal.pause, log_dir=tmp_path, timeout=1)
