import errno
import os
from pathlib import Path

import pytest
import torch

import mmhybrid
from mmhybrid.checkpoints import load_pretrained, load_weights
from mmhybrid.cli.convert_weights import main
from mmhybrid.models.backbones import ViT
from tests.checkpoints import published

ROOT = Path(__file__).resolve().parents[2]


class RunsCode:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('form', published.FORMS)
def test_converted_files_fill_the_same_model(tmp_path, form, suffix, capsys):
    if suffix == '.safetensors':
        pytest.importorskip('safetensors')
    state_dict, source, _ = published.FORMS[form]
    given, written = tmp_path / 'given.pth', tmp_path / f'written{suffix}'
    torch.save({'model': state_dict()}, given)
    assert main([str(given), str(written)]) == 0
    output = capsys.readouterr().out
    assert source in output and f'{published.WIDTH} wide' in output and str(written) in output

    expected, model = published.build_vit(form), published.build_vit(form)
    load_weights(expected, state_dict(), parts={'vit': ''})
    report = load_pretrained(model, written, parts={'vit': ''})
    assert published.same_state(model, expected.state_dict())
    assert not report.converted


def test_a_file_does_not_depend_on_its_name(tmp_path):
    given = tmp_path / 'given.pth'
    torch.save(published.deit(), given)
    written = [tmp_path / name for name in ('one.pth', 'two.pth')]
    for path in written:
        assert main([str(given), str(path)]) == 0
    assert written[0].read_bytes() == written[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == [given, *written]


@pytest.mark.parametrize('name', ['out.pth', 'out.safetensors'])
def test_a_full_disk_keeps_the_file_of_before(name, tmp_path, monkeypatch, capsys):
    given, written = tmp_path / 'given.pth', tmp_path / name
    torch.save(published.deit(), given)
    written.write_text('of before')

    def full(content, *target, **_):
        for file in target:
            file.write(b'half')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('torch.save', full)
    monkeypatch.setattr('safetensors.torch.save', full)
    assert main([str(given), str(written)]) == 1
    assert capsys.readouterr().err.endswith(f"No space left on device: '{written}'\n")
    assert written.read_text() == 'of before' and len(list(tmp_path.iterdir())) == 2


def test_show_writes_nothing(tmp_path, capsys):
    path = tmp_path / 'given.pth'
    torch.save(published.deit_distilled(), path)
    assert main([str(path), '--show']) == 0
    assert 'unused             2: head.weight, head_dist.weight' in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]


def test_trust_is_asked_for(tmp_path, capsys):
    marker, given, written = (tmp_path / name for name in ('marker', 'given.pth', 'written.pth'))
    torch.save(published.deit() | {'extra': RunsCode(marker)}, given)
    assert main([str(given), str(written)]) == 1
    assert '--trust' in capsys.readouterr().err
    assert not written.exists() and not marker.exists()
    assert main(['--trust', str(given), str(written)]) == 0
    assert marker.exists()
    assert load_pretrained(published.build_vit(), written, parts={'vit': ''}).percent == 100


def test_trusted_modules_give_their_weights(tmp_path):
    given, written = tmp_path / 'given.pth', tmp_path / 'written.pth'
    torch.manual_seed(0)  # of untrained positions some resemble those of another grid
    saved, model = published.build_vit(), published.build_vit()
    torch.save({'model': saved, 'epoch': 3}, given)
    assert main([str(given), str(written)]) == 1
    assert main([str(given), str(written), '--trust']) == 0
    load_pretrained(model, written, parts={'vit': ''})
    assert published.same_state(model, saved.state_dict())


def test_errors(tmp_path, capsys):
    path = tmp_path / 'given.pth'
    torch.save({'conv1.weight': torch.ones(1)}, path)
    assert main([str(path), '--show']) == 1
    error = capsys.readouterr().err
    assert str(path) in error and 'no known source' in error and 'prefix=' not in error
    assert main([str(tmp_path / 'none.pth'), '--show']) == 1
    for arguments in ([str(path)], [str(path), 'out.bin'], [str(path), 'out.pth', '--show']):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2


@pytest.mark.parametrize('name', ['cmt_ti', 'vitcomer_t'])
def test_a_training_of_our_own_backbones(name, tmp_path):
    given, written = tmp_path / 'given.pth', tmp_path / 'written.pth'
    saved, model = mmhybrid.build_backbone(name), mmhybrid.build_backbone(name)
    weights = {f'backbone.{key}': value for key, value in saved.state_dict().items()}
    torch.save({'state_dict': weights | {'head.fc.weight': torch.ones(1)}}, given)
    assert main([str(given), str(written)]) == 0
    load_pretrained(model, written, parts=model.pretrained_parts)
    assert published.same_state(model, saved.state_dict())


def test_to_transformers(tmp_path, capsys):
    transformers = pytest.importorskip('transformers')
    given, written = tmp_path / 'given.pth', tmp_path / 'vit'
    torch.save(published.deit(width=192, depth=12, patch=16, grid=2), given)
    command = [str(given), str(written), '--to', 'transformers', '--arch']
    assert main([*command, 's']) == 1
    assert '12 blocks of width 384' in capsys.readouterr().err and not written.exists()
    assert main([*command, 'dinov2']) == 1
    assert 'dinov2_s' in capsys.readouterr().err
    assert main([*command, 't']) == 0
    peer = transformers.AutoModel.from_pretrained(written).eval()
    model = ViT('t', pretrain_size=32, final_norm=True).eval()
    load_pretrained(model, given, parts={'vit': ''})
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        (expected,) = model(image)
        tokens = peer(image).last_hidden_state[:, 1:]
    out = tokens.transpose(1, 2).unflatten(2, (2, 2))
    assert (out - expected).abs().max() < 1e-4 * expected.std()
    assert main([*command, 't']) == 1  # it is there
    assert str(written) in capsys.readouterr().err


@pytest.mark.parametrize(
    'options',
    [
        ['out', '--to', 'transformers'],
        ['out.pth', '--arch', 't'],
        ['--show', '--to', 'transformers', '--arch', 't'],
    ],
)
def test_options_that_go_together(options, capsys):
    with pytest.raises(SystemExit):
        main(['given.pth', *options])
    assert '--arch' in capsys.readouterr().err
