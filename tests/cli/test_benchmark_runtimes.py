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


def test_a_file_for_each_model_and_none_that_differs(tool, tmp_path, monkeypatch):
    from mmhybrid import deploy
    from mmhybrid.deploy import exporting, openvino

    apart = deploy.Agreement(tmp_path, (1, 3, 32, 64), worst=1.0, mean=1.0, output='map_0')
    monkeypatch.setattr(deploy, 'export', lambda graphs, path, **options: path.touch())
    monkeypatch.setattr(openvino, 'to_openvino', lambda source, target: target.touch())
    monkeypatch.setattr(deploy, 'load_exported', lambda path: path)
    monkeypatch.setattr(exporting, 'compare', lambda *graph, **options: [apart])
    benchmark = tool('benchmark_runtimes')
    names = ['vit_t,layer_scale=0.1', 'vit_t,layer_scale=0.2', 'vit_t,out_indices=(0,)']
    for name in names:
        args = benchmark.parse_args([name, *SHORT, '--runtimes', 'onnxruntime'])
        benchmark.write_files(name, None, args, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    args = benchmark.parse_args([names[0], *SHORT, '--runtimes', 'openvino-bf16'])
    with pytest.raises(deploy.ExportError, match='disagrees with the model'):
        benchmark.write_files(names[0], None, args, tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {'.onnx'}


def test_own_configs_of_one_name_have_files_of_their_own(tool, tmp_path):
    stem = tool('benchmark_runtimes').file_stem
    paths = [tmp_path / folder / 'retinanet_cmt_s.py' for folder in 'ab']
    for number, path in enumerate(paths):
        path.parent.mkdir()
        path.write_text(f'model = dict(number={number})')
    names = [stem(str(path)) for path in paths]
    paths[0].write_text('model = dict(number=2)')
    names.append(stem(str(paths[0])))
    assert len(set(names)) == 3 and all(name.startswith('retinanet_cmt_s-') for name in names)
    shipped = ('retinanet_cmt_s', 'mmhybrid::retinanet_cmt_s', 'configs/cmt/retinanet_cmt_s.py')
    assert {stem(name) for name in shipped} == {'retinanet_cmt_s'}


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
