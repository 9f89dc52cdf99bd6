import os

import pytest
import torch
from torch import nn

from mmhybrid.checkpoints import CheckpointError
from mmhybrid.engine import AtomicCheckpointHook, latest_checkpoint, load_weights
from mmhybrid.engine.checkpoint import AtomicBackend


def save(model, path, **others):
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=1), **others), path)
    return path


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
    for path, time in ((first, 100), (second, 200)):
        os.utime(path, (time, time))
    assert latest_checkpoint(tmp_path) == second
    second.write_bytes(second.read_bytes()[:200])
    os.utime(second, (200, 200))
    lines = []
    assert latest_checkpoint(tmp_path, lines.append) == first
    assert 'epoch_2.pth' in lines[0]


def test_weights_load_all_or_not(tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    path = save(model, tmp_path / 'a.pth')
    other = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert load_weights(other, path)['epoch'] == 1
    torch.testing.assert_close(other[0].weight, model[0].weight)

    with pytest.raises(CheckpointError, match=r'5 missing: 1\.weight, .*\(5 in all\)') as error:
        load_weights(other, save(nn.Sequential(nn.Linear(2, 3)), tmp_path / 'b.pth'))
    assert 'unexpected' not in str(error.value)
    with pytest.raises(CheckpointError, match=r'1 unexpected: 1\.weight'):
        load_weights(nn.Sequential(nn.Linear(2, 3), nn.Identity()), one_more(tmp_path))
    with pytest.raises(CheckpointError, match=r'0\.weight \(4, 2\) for \(3, 2\)'):
        load_weights(nn.Sequential(nn.Linear(2, 3)), wider(tmp_path))


def one_more(folder):
    return save(
        nn.Sequential(nn.Linear(2, 3), nn.Conv2d(1, 1, 1, bias=False)), folder / 'one_more.pth'
    )


def wider(folder):
    return save(nn.Sequential(nn.Linear(2, 4)), folder / 'wider.pth')


def test_files_that_are_no_checkpoint(tmp_path):
    model = nn.Linear(2, 3)
    with pytest.raises(CheckpointError, match='not found: .*nothing.pth'):
        load_weights(model, tmp_path / 'nothing.pth')
    path = save(model, tmp_path / 'cut.pth')
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CheckpointError, match='cut.pth'):
        load_weights(model, path)
    torch.save(dict(a=1), tmp_path / 'settings.pth')
    with pytest.raises(CheckpointError, match='no state dict, but keys a'):
        load_weights(model, tmp_path / 'settings.pth')
