"""The runtimes take turns on one exported model, and the table has each."""

import json

import pytest

pytest.importorskip('onnxruntime')

SHORT = ['--size', '32', '64', '--rounds', '1']


def test_runtimes_take_turns(tool, tmp_path, capsys, monkeypatch):
    from mmhybrid import deploy

    file, files = tmp_path / 'new' / 'runtimes.json', tmp_path / 'files'
    runtimes = ['eager', 'eager-bf16', 'onnxruntime']
    options = ['--runtimes', ','.join(runtimes), '--json', str(file), '--files', str(files)]
    (row,) = tool('benchmark_runtimes').main(['vit_t', *SHORT, *options])
    assert json.loads(file.read_text()) == [row]
    assert row.keys() == {'name', *runtimes} and all(row[name] > 0 for name in runtimes)
    header, line = capsys.readouterr().out.splitlines()[-2:]
    assert header.split() == runtimes and line.startswith('vit_t') and line.count('x)') == 3
    assert [path.name for path in files.iterdir()] == ['vit_t-32x64-grid_sample.onnx']
    monkeypatch.delattr(deploy, 'export')  # what is there is taken
    tool('benchmark_runtimes').main(['vit_t', *SHORT, *options])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (['--runtimes', 'eager,tensorrt'], '--runtimes tensorrt: expected eager'),
        (['--size', '16', '64'], 'at least 32 32'),
    ],
)
def test_wrong_options(tool, capsys, options, message):
    with pytest.raises(SystemExit):
        tool('benchmark_runtimes').main(['vit_t', *options])
    assert message in capsys.readouterr().err
