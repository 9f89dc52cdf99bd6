import errno
import os
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmhybrid.checkpoints import CheckpointError
from mmhybrid.engine import (
    AtomicCheckpointHook,
    TrainingError,
    latest_checkpoint,
    load_trained,
)
from mmhybrid.engine.checkpoint import AtomicBackend
from mmhybrid.engine.sharding import shard


def save(model, path, **others):
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=1), **others), path)
    return path


def test_the_best_of_another_folder_stays(tmp_path, monkeypatch):
    there, here = (str(tmp_path / folder / 'best_mIoU_iter_2.pth') for folder in 'ab')
    out = dict(rule='greater', out_dir=str(tmp_path / 'b'))
    for path in (there, here):
        hook = AtomicCheckpointHook(save_best='mIoU', **out)
        hook.best_ckpt_path = path
        hook._forget_other_folders()
        assert hook.best_ckpt_path == (path if path == here else None)
    monkeypatch.chdir(tmp_path)  # a folder that is given relative to it
    hook = AtomicCheckpointHook(save_best='mIoU', rule='greater', out_dir='b')
    hook.best_ckpt_path = 'b/best_mIoU_iter_2.pth'
    hook._forget_other_folders()
    assert hook.best_ckpt_path == 'b/best_mIoU_iter_2.pth'
    hook = AtomicCheckpointHook(save_best=['mIoU', 'mAcc'], **out)
    hook.best_ckpt_path_dict = dict(mIoU=there, mAcc=here)
    hook._forget_other_folders()
    assert hook.best_ckpt_path_dict == dict(mIoU=None, mAcc=here)


def test_a_file_appears_complete_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / 'folder' / 'epoch_1.pth'
    AtomicBackend().put(b'first', path)
    assert path.read_bytes() == b'first'

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'fsync', killed)
    with pytest.raises(KeyboardInterrupt):
        AtomicBackend().put(b'second', path)
    assert path.read_bytes() == b'first'


def test_hook_never_removes_the_only_checkpoint():
    assert AtomicCheckpointHook(max_keep_ckpts=1).max_keep_ckpts == 2
    assert AtomicCheckpointHook(max_keep_ckpts=3).max_keep_ckpts == 3
    assert AtomicCheckpointHook().backend_args == dict(backend='mmhybrid.atomic')
    assert AtomicCheckpointHook(out_dir='s3://bucket').backend_args is None


def test_latest_checkpoint_skips_what_it_cannot_read(tmp_path):
    model = nn.Linear(2, 3)
    assert latest_checkpoint(tmp_path) is None
    first = save(model, tmp_path / 'epoch_1.pth')
    second = save(model, tmp_path / 'epoch_2.pth')
    save(model, tmp_path / 'best_coco_bbox_mAP_epoch_2.pth')
    stopped = save(model, tmp_path / 'stopped_iter_7.pth')
    for path, time in ((first, 100), (stopped, 150), (second, 200)):
        os.utime(path, (time, time))
    assert latest_checkpoint(tmp_path) == second
    second.write_bytes(second.read_bytes()[:200])
    os.utime(second, (200, 200))
    lines = []
    assert latest_checkpoint(tmp_path, lines.append) == stopped
    assert 'epoch_2.pth' in lines[0]


def test_weights_load_all_or_not(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    path = save(model, tmp_path / 'a.pth')
    other = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert load_trained(other, path)['epoch'] == 1
    torch.testing.assert_close(other[0].weight, model[0].weight)

    with pytest.raises(CheckpointError, match=r'5 missing: 1\.weight, .*\(5 in all\)') as error:
        load_trained(other, save(nn.Sequential(nn.Linear(2, 3)), tmp_path / 'b.pth'))
    assert 'unexpected' not in str(error.value)
    with pytest.raises(CheckpointError, match=r'1 unexpected: 1\.weight'):
        load_trained(nn.Sequential(nn.Linear(2, 3), nn.Identity()), one_more(tmp_path))
    with pytest.raises(CheckpointError, match=r'0\.weight \(4, 2\) for \(3, 2\)'):
        load_trained(nn.Sequential(nn.Linear(2, 3)), wider(tmp_path))


def one_more(folder):
    return save(
        nn.Sequential(nn.Linear(2, 3), nn.Conv2d(1, 1, 1, bias=False)), folder / 'one_more.pth'
    )


def wider(folder):
    return save(nn.Sequential(nn.Linear(2, 4)), folder / 'wider.pth')


def test_files_that_are_no_checkpoint(tmp_path):
    model = nn.Linear(2, 3)
    with pytest.raises(CheckpointError, match='not found: .*nothing.pth'):
        load_trained(model, tmp_path / 'nothing.pth')
    path = save(model, tmp_path / 'cut.pth')
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CheckpointError, match='cut.pth'):
        load_trained(model, path)
    torch.save(dict(a=1), tmp_path / 'settings.pth')
    with pytest.raises(CheckpointError, match='no state dict, but keys a'):
        load_trained(model, tmp_path / 'settings.pth')


def runner_of(model, **others):
    return SimpleNamespace(
        model=model,
        message_hub=SimpleNamespace(runtime_info=dict(last_ckpt='epoch_1.pth')),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0), **others),
        _resume=True,
    )


def test_weights_that_are_not_numbers_are_not_saved():
    model = nn.Linear(2, 3)
    hook = AtomicCheckpointHook()
    hook._prepare(runner_of(model), 7)
    model.bias.data[1] = torch.inf
    with pytest.raises(TrainingError, match=r'1 weights .* 7 iterations, first bias.*epoch_1\.pth'):
        hook._prepare(runner_of(model), 7)


def test_gradients_of_half_an_accumulation_are_saved():
    model = nn.Linear(2, 3)
    runner, hook = runner_of(model, accumulative_counts=2), AtomicCheckpointHook()
    runner.optim_wrapper.initialize_count_status(model, 0, 4)
    runner.optim_wrapper.update_params(model(torch.ones(1, 2)).sum())
    hook._prepare(runner, 1)
    checkpoint = dict(optimizer={})
    hook.before_save_checkpoint(runner, checkpoint)
    other = nn.Linear(2, 3)
    AtomicCheckpointHook().after_load_checkpoint(runner_of(other), checkpoint)
    torch.testing.assert_close(other.weight.grad, torch.full((3, 2), 0.5))

    runner.optim_wrapper.update_params(model(torch.ones(1, 2)).sum())
    hook._prepare(runner, 2)
    checkpoint = dict(optimizer={})
    hook.before_save_checkpoint(runner, checkpoint)
    assert checkpoint == dict(optimizer={})


class Choice(nn.Module):
    """The first process uses weight ``a``, the second ``b``; nobody ``c``."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Parameter(torch.ones(2)) for _ in range(3))

    def forward(self, rank):
        return (10 * self.a if rank == 0 else 1000 * self.b).sum()


def waiting_gradients(model, rank):
    """What is saved when this process has gradients of half an accumulation."""
    sharded = hasattr(model, 'reshard')
    runner, hook = runner_of(model, accumulative_counts=2), AtomicCheckpointHook()
    runner.optim_wrapper.initialize_count_status(model, 0, 4)
    with runner.optim_wrapper.optim_context(model):
        loss = model(0 if sharded else rank)
    runner.optim_wrapper.update_params(loss)
    if sharded:  # as if they had used different ones: torch wants the same of all
        model.a.grad = torch.ones_like(model.a)
        model.b.grad = torch.ones_like(model.b)
        [model.b, model.a][rank].grad = None
    hook._prepare(runner, 1)
    return {name: gradient.tolist() for name, gradient in hook.gradients.items()}


def use_different_weights(rank, store):
    limit = timedelta(seconds=60)
    torch.distributed.init_process_group('gloo', store, limit, world_size=2, rank=rank)
    model = nn.parallel.DistributedDataParallel(Choice(), find_unused_parameters=True)
    saved = waiting_gradients(model, rank)
    assert saved == ({} if rank else dict(a=[2.5, 2.5], b=[250.0, 250.0]))
    model = Choice()
    shard(model, 1)
    saved = waiting_gradients(model, rank)
    assert saved == ({} if rank else dict(a=[1.0, 0.0], b=[0.0, 1.0]))
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(torch.cuda.is_available(), reason='two processes want two GPUs here')
def test_gradients_of_processes_that_use_different_weights(tmp_path):
    torch.multiprocessing.spawn(use_different_weights, (f'file://{tmp_path}/store',), nprocs=2)


def test_a_full_disk_leaves_the_file_before(tmp_path, monkeypatch):
    path = tmp_path / 'epoch_2.pth'
    (tmp_path / 'epoch_1.pth').touch()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'fsync', full)
    words = (
        r'epoch_2\.pth \(0 MB\) .*No space left.*MB are free.*epoch_1\.pth is complete.*--resume'
    )
    with pytest.raises(CheckpointError, match=words):
        AtomicBackend().put(b'content', path)
    assert [p.name for p in tmp_path.iterdir()] == ['epoch_1.pth']
