import json

import pytest
import torch

from mmhybrid.cli import check_gpu
from mmhybrid.cli.usage import UsageError

TINY = ['--device', 'cpu', '--size', '64', '64', '--batch', '1', '--rounds', '1']


def test_without_a_gpu_it_ends(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UsageError, match='no GPU that torch can use; --device cpu'):
        check_gpu.main([])


def test_all_steps_on_a_cpu(job, data, tmp_path, monkeypatch, capsys):
    config, _ = job('mmdet')
    from mmhybrid.cli import demo

    monkeypatch.setattr(demo, 'draw_demo', lambda out, progress: False)
    monkeypatch.setattr(demo, 'ROWS', 1)
    monkeypatch.setattr(check_gpu, 'DEMO', ['--config', config, '--data', str(data)])
    names = ['--names', 'vit_t']
    assert check_gpu.main([*names, *TINY, '--out', str(tmp_path / 'out')]) == 0
    report = json.loads((tmp_path / 'out/check_gpu.json').read_text())
    assert report['failed'] == {} and list(report['seconds']) == list(check_gpu.STEPS)
    rows = report['kernels']
    assert {row['dtype'] for row in rows} == {'fp32', 'fp16', 'bf16'}
    assert all(0 <= row['error'] <= row['tolerance'] and row['passed'] for row in rows)
    assert any(row['error'] > 0 for row in rows)
    assert len(rows) == 3 * (2 * 4 + 5)
    assert set(report['deformable']) >= {'embedding_bag', 'grid_sample'}
    (row,) = report['benchmark']
    for mode in ('infer', 'train'):
        assert row[f'{mode}_ms'] > 0 and row[f'{mode}_least_ms'] > 0
    assert report['demo']['minutes'] > 0 and 'coco/bbox_mAP' in report['demo']
    text = (tmp_path / 'out/check_gpu.md').read_text()
    assert text in capsys.readouterr().out
    assert 'CPU, for a trial' in text and '| vit_t | ' in text
    assert 'embedding_bag, ' in text and 'FAILED' not in text


def test_what_is_off_fails(tmp_path, monkeypatch, capsys):
    """A wrong kernel is told, and so is a step that raises; the steps after them run."""
    monkeypatch.setattr(check_gpu, 'differences', lambda *args: [0.5] * 5)
    monkeypatch.setattr(check_gpu, 'judged', lambda about, dtype, names, errors, tolerance: [
        dict(kernel=about, dtype=dtype, result=names[0], error=errors[0], tolerance=tolerance,
             passed=errors[0] <= tolerance)
    ])  # fmt: skip

    def broken(*args):
        raise RuntimeError('no such bandwidth')

    monkeypatch.setattr(check_gpu, 'measure_machine', broken)
    steps = ['--steps', 'kernels', 'machine', 'deformable', '--out', str(tmp_path)]
    assert check_gpu.main([*TINY, *steps]) == 2
    report = json.loads((tmp_path / 'check_gpu.json').read_text())
    assert report['failed']['kernels'] == '9 of 9 are off'
    assert report['failed']['machine'] == 'RuntimeError: no such bandwidth'
    assert report['deformable']
    out = capsys.readouterr().out
    assert 'WRONG, more than' in out and 'FAILED: machine: RuntimeError' in out


def test_differences_are_found():
    """Of the output and of each gradient, against the plain form."""
    tensors = [torch.randn(4, 3), torch.randn(4, 3)]
    exact = check_gpu.differences(torch.mul, torch.mul, tensors, torch.float32, 1)
    assert exact == [0, 0, 0]
    off = check_gpu.differences(lambda a, b: a * b * 1.5, torch.mul, tensors, torch.float32, 1)
    assert all(error > 0.4 for error in off)
    rounded = check_gpu.differences(torch.mul, torch.mul, tensors, torch.bfloat16, 1)
    assert all(0 <= error < 0.02 for error in rounded)
