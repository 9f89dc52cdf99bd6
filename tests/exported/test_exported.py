"""The comparison of metrics, on the smallest model, and what it says of a file that differs."""

import pytest

from tests.exported import __main__ as exported


@pytest.mark.parametrize('runtime', ['onnx', 'xml'])
def test_a_classifier(runtime, tmp_path, capsys):
    if runtime == 'xml':
        pytest.importorskip('openvino')
    options = ['--fixed-size', '64', '96', '--runtimes', runtime, '--work-dir', str(tmp_path)]
    assert exported.main(['--head', 'linear_cmt_ti', *options]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith('linear_cmt_ti') and row.endswith('ok')
    accuracy = float(row.split('accuracy/top1')[1].split()[0])
    assert 50 < accuracy < 100  # annotations are the model's own, with mistakes


@pytest.mark.parametrize('other', [0.502, float('nan')])
def test_a_difference_fails(other, monkeypatch, capsys):
    metrics = dict(pth={'mIoU': 0.5}, onnx={'mIoU': 0.5005}, xml={'mIoU': other})
    monkeypatch.setattr(exported, 'compare', lambda *args: metrics)
    assert exported.main(['--head', 'upernet_cmt_ti', 'fpn_cmt_ti']) == 2
    assert 'DIFFERS' in capsys.readouterr().out
    metrics['xml'] = metrics['onnx']
    assert exported.main(['--head', 'upernet_cmt_ti']) == 0
