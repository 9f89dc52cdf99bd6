import json

import pytest
import torch

from mmhybrid.cli import benchmark
from mmhybrid.cli.usage import UsageError
from mmhybrid.engine.flops import count_macs

NAMES = ['timm:resnet18', 'vit_t']


def test_a_table_without_a_device(tmp_path, capsys):
    file = tmp_path / 'new' / 'count.json'
    options = ['--count', '--size', '64', '96', '--batch', '2', '--dtype', 'bf16']
    report = benchmark.main([*NAMES, *options, '--card', 'l4', '--json', str(file)])
    assert json.loads(file.read_text()) == report
    assert (report['card'], report['size'], report['dtype']) == ('L4', [64, 96], 'bf16')
    rows = report['results']
    assert [(row['name'], row['mode']) for row in rows] == [
        (name, mode) for name in NAMES for mode in ('infer', 'train')
    ]
    for infer, train in (rows[:2], rows[2:]):
        for key in ('launches', 'moved_gb', 'gmacs', 'peak_mb', 'least_ms'):
            assert 0 < infer[key] < train[key], key
        assert infer['host_copies'] == train['host_copies'] == 0
        assert infer['launch'] + infer['memory'] + infer['products'] == pytest.approx(1)
    out = capsys.readouterr().out
    assert 'counted, not measured, for L4' in out and '64x96, batch 2, bf16' in out
    assert 'timm:resnet18, infer: largest is aten::' in out


def test_multiply_adds_are_those_of_a_real_image():
    name = 'vitcomer_t,extra_cti=0'
    counted = benchmark.main([name, '--size', '64', '64', '--mode', 'infer', '--count'])
    macs = count_macs(benchmark.build_model(name).eval(), torch.randn(1, 3, 64, 64))
    assert counted['results'][0]['gmacs'] == pytest.approx(macs / 1e9)


def test_weights_cast_are_half_of_the_memory():
    options = ['vit_t', '--size', '32', '32', '--mode', 'infer', '--count', '--dtype', 'bf16']
    auto, cast = (benchmark.main([*options, *more]) for more in ([], ['--cast']))
    assert cast['results'][0]['peak_mb'] < 0.55 * auto['results'][0]['peak_mb']
    assert cast['results'][0]['launches'] < auto['results'][0]['launches']


@pytest.mark.parametrize(
    'options, message',
    [
        (['--card', 'h300'], 'expected one of h200, h100'),
        (['--card', 't4', '--dtype', 'bf16'], 'T4 computes no products in it'),
    ],
)
def test_cards_that_cannot(options, message):
    with pytest.raises(UsageError, match=message):
        benchmark.main(['vit_t', '--count', *options])


@pytest.mark.parametrize('name', ['demo_linear_vitcomer_t', 'vit_t@.'])
def test_no_whole_models_and_no_other_checkouts(name, capsys):
    with pytest.raises(SystemExit):
        benchmark.main([name, '--count'])
    assert '--count is for backbones of this checkout' in capsys.readouterr().err
