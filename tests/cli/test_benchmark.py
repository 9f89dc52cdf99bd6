import json
from pathlib import Path

import pytest
import torch

import mmhybrid
from mmhybrid.cli import benchmark
from mmhybrid.testing.tasks import ConfigTask

ROOT = Path(__file__).resolve().parents[2]


def test_two_models_take_turns(tmp_path, capsys):
    file = tmp_path / 'new' / 'report.json'
    names = [f'vit_t@{ROOT}', 'vitcomer_t,freeze=vit,out_indices=(2,3),extra_cti=0']
    arguments = [*names, '--size', '64', '96', '--rounds', '1', '--processes', '2']
    arguments += ['--threads', '1']
    benchmark.main([*arguments, '--device', 'cpu', '--json', str(file)])
    report = json.loads(file.read_text())
    assert [result['name'] for result in report['results']] == names
    for result in report['results']:
        assert set(result) == {'name', 'infer_ms', 'train_ms', 'peak_mb', 'params_m', 'gflops'}
        assert all(result[key] > 0 for key in result if key != 'name')
    vit, comer = (result['params_m'] for result in report['results'])
    assert vit == sum(p.numel() for p in mmhybrid.build_backbone('vit_t').parameters()) / 1e6
    assert vit < comer < 8.739
    assert report['machine']['size'] == [64, 96]
    assert report['machine']['processes'] == 2
    out = capsys.readouterr().out
    assert '(1.00x)' in out
    assert '64x96, batch 1, fp32' in out
    assert 'median of 1 interleaved rounds in each of 2 processes' in out


def test_batch_norms_folded_and_weights_cast(capsys, monkeypatch):
    monkeypatch.setenv('LD_PRELOAD', '/lib/libm.so.6 /usr/lib/no_such_library.so.2')
    arguments = ['--size', '64', '64', '--rounds', '1', '--processes', '1', '--threads', '1']
    arguments += ['--mode', 'infer', '--fuse', '--dtype', 'bf16', '--cast']
    report = benchmark.main(['vitcomer_t,extra_cti=0', *arguments])
    assert report['machine']['fuse'] and report['machine']['cast']
    assert report['results'][0]['train_ms'] is None
    out = capsys.readouterr().out
    assert 'bf16 weights, batch norms folded' in out
    assert report['machine']['preload'] == ['libm.so.6', 'no_such_library.so.2']
    assert ', libm.so.6, no_such_library.so.2, 64x64' in out


def test_unknown_names_end_it(capfd):
    with pytest.raises(SystemExit, match='vit_xxl could not be measured'):
        benchmark.main(['vit_xxl', '--rounds', '1'])
    error = capfd.readouterr().err
    assert "error: vit_xxl: no backbone 'vit_xxl'" in error and 'Traceback' not in error


@pytest.mark.parametrize(
    'arguments',
    [
        ['--mode', 'inference'],
        ['--size', '16', '64'],
        ['--rounds', '0'],
        ['--processes', '0'],
        ['--fuse'],
        ['--cast'],
    ],
)
def test_bad_arguments(arguments, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(['vit_t', *arguments])
    assert 'error' in capsys.readouterr().err


def test_a_folder_that_is_no_checkout(tmp_path):
    with pytest.raises(SystemExit, match=f'no tools/benchmark.py in {tmp_path}; expected NAME@'):
        benchmark.main([f'vit_t@{tmp_path}'])


@pytest.mark.parametrize(
    'config',
    ['demo_maskrcnn_vitcomer_t.py', 'demo_upernet_vitcomer_t.py', 'demo_linear_vitcomer_t.py'],
)
def test_whole_models_have_a_task(config):
    task = ConfigTask(str(ROOT / 'configs' / config), 2, (64, 96), torch.device('cpu'))
    assert task.macs() > 0
    task.model.train()
    assert task.loss().isfinite()


@pytest.mark.parametrize('name', ['levit_128s', 'deit_tiny_patch16_224', 'resnet18'])
def test_models_of_timm_take_the_options_that_they_have(name):
    model = benchmark.build_model(f'timm:{name}').eval()
    size = (224, 224) if name == 'levit_128s' else (64, 96)  # which has no option for others
    with torch.no_grad():
        assert model(torch.zeros(1, 3, *size)).isfinite().all()
