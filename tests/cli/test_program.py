"""The program `mmhybrid`: its commands, how it ends, and what it does not import."""

import json
import subprocess
import sys

import pytest

from mmhybrid import list_configs
from mmhybrid.checkpoints import OFFICIAL_FILES
from mmhybrid.cli import configs, weights
from mmhybrid.cli.program import COMMANDS, main
from mmhybrid.cli.usage import UsageError

HEAVY = {'torch', 'numpy', 'mmengine', 'cv2', 'mmcv', 'yaml'}


@pytest.fixture
def ends(monkeypatch, capsys):
    """Run the program with arguments; return its exit code and what it printed."""
    monkeypatch.setattr(sys, 'argv', ['mmhybrid'])

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return run


@pytest.mark.parametrize('name', COMMANDS)
def test_each_command_has_help(name, ends):
    code, out, _ = ends(name, '--help')
    assert code == 0
    assert out.startswith(('usage: mmhybrid ', 'usage: python -m mmhybrid.doctor'))


def test_help_lists_the_commands(ends):
    code, out, _ = ends('--help')
    assert code == 0
    for name, (_, line) in COMMANDS.items():
        assert f'  {name} ' in out and line in out
    assert ends() == (2, out, '')


def test_a_wrong_command(ends):
    code, _, err = ends('trian')
    assert code == 2 and 'trian' in err and 'train' in err


def test_a_mistake_is_a_message(ends, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = ends('train', 'nowhere.py')
    assert code.startswith('error: ') and 'nowhere.py' in code and not err


def test_help_imports_no_library():
    code = (
        'import sys\n'
        'try:\n'
        '    import runpy; sys.argv = ["mmhybrid", "--help"]; '
        'runpy.run_module("mmhybrid", run_name="__main__")\n'
        'except SystemExit: pass\n'
        f'print("loaded:", sorted({HEAVY!r} & set(sys.modules)))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert 'commands:' in done.stdout
    assert done.stdout.splitlines()[-1] == 'loaded: []'


def test_configs_are_searched(capsys):
    found = configs.main(['maskrcnn', 'vit-comer-b', 'dinov2'])
    assert [entry.name for entry in found] == ['maskrcnn_vitcomer_b', 'maskrcnn_vitcomer_b_3x']
    out = capsys.readouterr().out
    assert 'box AP 52.0' in out and '129.7' in out and '2 of ' in out


def test_configs_as_json(capsys):
    configs.main(['upernet_vitcomer_b', '--json'])
    entries = json.loads(capsys.readouterr().out)
    assert all('upernet_vitcomer_b' in entry['name'] for entry in entries)
    assert entries[0]['params'] > 1e8


def test_every_config_is_found(capsys):
    named = {entry.name for entry in configs.main([])}
    rest = capsys.readouterr().out.splitlines()[-1]
    for name in set(list_configs()) - named:
        assert name in rest


def test_a_search_that_finds_nothing():
    with pytest.raises(UsageError, match='no_such_word.*Mask R-CNN'):
        configs.main(['no_such_word'])


def test_weights_are_searched(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr('torch.hub.get_dir', lambda: str(tmp_path))
    fetched = OFFICIAL_FILES['dinov2_vits14'].file_name
    (tmp_path / 'checkpoints').mkdir()
    (tmp_path / 'checkpoints' / fetched).touch()
    found = weights.main(['dinov2', 'reg4'])
    assert found == [f'dinov2_vit{size}14_reg4' for size in 'sblg']
    out = capsys.readouterr().out
    assert 'dinov2_vits14 ' not in out and f'4 of {len(OFFICIAL_FILES)} names' in out
    weights.main(['dinov2_vits14'])
    assert 'dinov2_vits14       fetched\n' in capsys.readouterr().out
    assert weights.main(['on request', 'eupe_vitt'])
    out = ' '.join(capsys.readouterr().out.split())
    assert 'no commercial use' in out and 'or vit_tiny_patch16_dinov3_qkvb.eupe' in out
    weights.main(['dinov3_convnext_tiny', '--json'])
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry['remark'].startswith('not taken: it is a ConvNeXt')


def test_every_name_of_weights_is_listed(capsys):
    assert weights.main([]) == list(OFFICIAL_FILES)
    *lines, _ = capsys.readouterr().out.splitlines()  # the last one names a folder
    assert max(map(len, lines)) <= 100
    with pytest.raises(UsageError, match='none of .* names has no_such_word'):
        weights.main(['no_such_word'])
