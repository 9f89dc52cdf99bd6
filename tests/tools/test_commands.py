"""Each file of tools/ that stands for a command runs it, wherever it is called."""

import runpy
import sys

import pytest

from mmhybrid import cli

from .conftest import TOOLS

OWN = ('_checkout', '_zoo', 'draw_docs', 'install', 'make_metafiles')  # serve the checkout
STANDS_FOR = sorted({path.stem for path in TOOLS.glob('*.py')} - set(OWN))


def test_there_are_some():
    assert {'train', 'test', 'infer'} < set(STANDS_FOR)


@pytest.mark.parametrize('name', STANDS_FOR)
def test_it_runs_the_command(name, tool, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', [f'{name}.py', '--help'])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOLS / f'{name}.py'), run_name='__main__')
    assert stop.value.code == 0
    assert f'usage: {name}.py ' in capsys.readouterr().out
    assert getattr(cli, name).main is tool(name).main
