import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmhybrid.cli.parity import main
from mmhybrid.testing import Golden, build_original

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / 'tests' / 'golden'
SPECS = sorted(GOLDEN.glob('*.json'))


@pytest.fixture
def altered(tmp_path):
    """Writes a copy of a small reference run with its description or its values changed."""

    def alter(name='tiny_dinov2_swiglu', *, spec=None, values=None):
        description = json.loads((GOLDEN / f'{name}.json').read_text())
        with np.load(GOLDEN / f'{name}.npz') as reference:
            outputs = dict(reference)
        if spec:
            spec(description)
        if values:
            values(outputs)
        (tmp_path / f'{name}.json').write_text(json.dumps(description))
        np.savez(tmp_path / f'{name}.npz', **outputs)
        return str(tmp_path / f'{name}.json')

    return alter


def test_there_are_references():
    assert len(SPECS) > 8 and all(path.with_suffix('.npz').exists() for path in SPECS)


@pytest.mark.parametrize('path', SPECS, ids=lambda path: path.stem)
def test_equals_the_original(path, capsys):
    assert main([str(path)]) == 0
    output = capsys.readouterr().out
    rows = [line for line in output.splitlines() if line.startswith('  out ')]
    assert len(rows) == len(json.loads(path.read_text())['outputs'])
    assert all(row.endswith('ok') for row in rows)


def test_drawing_is_reproducible():
    golden = Golden(GOLDEN / 'tiny_vitcomer_options.json')
    first, second = golden.state_dict(), golden.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert {key: tuple(t.shape) for key, t in first.items()} == golden.shapes
    assert first['spm.stem.1.num_batches_tracked'].dtype == torch.int64
    assert golden.image().shape == golden.input_shape and golden.image().std() > 0.9
    weight = first['blocks.0.attn.qkv.weight']
    assert abs(weight.std() * weight.shape[1] ** 0.5 - 1) < 0.1


def test_a_different_value_fails(altered, capsys):
    def nudge(outputs):
        outputs['out1'][7] += 1e-3

    path = altered(values=nudge)
    assert main([path]) == 1
    output = capsys.readouterr().out
    assert output.count('DIFFERS') == 1 and 'out 1' in output
    assert main([path, '--max-error', '1', '--mean-error', '1']) == 0


def test_a_different_weight_fails(altered):
    def change(description):
        description['state_dict']['blocks.0.0.mlp.w3.weight']['mean'] = 0.001

    assert main([altered(spec=change)]) == 1


def test_nan_fails(altered):
    def spoil(outputs):
        outputs['out0'][:] = np.nan

    assert main([altered(values=spoil)]) == 1


def test_missing_extra_and_misshapen_outputs_fail(altered, capsys):
    def more(description):
        description['outputs'].append(description['outputs'][0])

    assert main([altered(spec=more)]) == 1
    assert 'out 2  shape None' in capsys.readouterr().out
    assert main([altered(spec=lambda description: description['outputs'].pop())]) == 1
    assert 'expected ()' in capsys.readouterr().out

    def reshape(description):
        description['outputs'][0]['shape'][-1] = 7

    assert main([altered(spec=reshape)]) == 1
    assert 'expected (1, 48, 4, 7)' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda d: d['arch'].update(surprise=1), "{'surprise': 1}"),
        (lambda d: d['arch'].pop('out_indices'), "no 'out_indices'"),
        (lambda d: d['arch'].update(ffn_bias=False), 'ffn_bias=False has no counterpart'),
        (lambda d: d['arch'].update(num_register_tokens=2), 'partly filled'),
        (lambda d: d['state_dict'].popitem(), 'tiny_dinov2_swiglu (DINOv2) does not fit'),
        (lambda d: d.update(source='someone/else'), "no backbone for the source 'someone/else'"),
        (lambda d: d.pop('arch'), "KeyError('arch')"),
    ],
)
def test_a_description_that_does_not_hold_fails(altered, capsys, change, message):
    def drop_norm(description):  # so that the last key is one that the model needs
        for key in ('norm.weight', 'norm.bias', 'mask_token'):
            description['state_dict'].pop(key)
        change(description)

    assert main([altered(spec=drop_norm)]) == 1
    assert message in capsys.readouterr().out


def test_missing_files_fail(tmp_path, capsys):
    good = str(GOLDEN / 'tiny_beit.json')
    with pytest.raises(ValueError, match='reference run not found: .*none.json'):
        main([str(tmp_path / 'none.json'), good])
    lonely = tmp_path / 'tiny_beit.json'
    lonely.write_text(Path(good).read_text())
    assert main([str(lonely)]) == 1
    np.savez(tmp_path / 'tiny_beit.npz', out0=np.zeros(768))
    assert main([str(lonely)]) == 1
    assert 'has no out1' in capsys.readouterr().out


def test_the_backbone_is_built_from_the_constructors_arguments():
    golden = Golden(GOLDEN / 'tiny_vitcomer_options.json')
    backbone = build_original(golden)
    assert not backbone.training
    assert backbone.vit.windows == (2, 0, 3, 0)
    assert backbone.vit.embed_dims == golden.arch['embed_dim']
