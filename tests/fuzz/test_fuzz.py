"""A few damaged files each time; thousands by hand, see the module's text."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize('target', TARGETS)
def test_every_file_is_read_or_refused(target):
    command = [sys.executable, '-W', 'ignore', '-m', 'tests.fuzz', target, '--cases', '60']
    env = {**os.environ, 'OMP_NUM_THREADS': '1'}
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    refused = re.findall(r'^ *(\d+)  (?:\w+: )?refused$', run.stdout, re.MULTILINE)
    read = re.findall(r'^ *(\d+)  (?:\w+: )?read$', run.stdout, re.MULTILINE)
    assert 10 < sum(map(int, refused)) < 60
    assert sum(map(int, read)) + sum(map(int, refused)) == 60


def test_a_reader_that_fails_is_found(tmp_path, monkeypatch, capsys):
    """The search itself: another error than the documented one, and code that ran, are failures."""
    from tests.fuzz import __main__ as fuzzing
    from tests.fuzz.targets import Target

    class Careless(Target):
        def __init__(self, folder):
            super().__init__(folder)
            self.samples = [folder / 'number.txt']
            self.samples[0].write_text('12345678')

        def read(self, path):
            int(path.read_text(errors='replace'))
            return 'read'

        def hostile(self):
            self.marker.touch()
            return iter(())

    monkeypatch.setattr(fuzzing, 'bound_memory', lambda spare: None)
    monkeypatch.setitem(TARGETS, 'careless', Careless)
    assert fuzzing.main(['careless', '--cases', '30', '--keep', str(tmp_path / 'kept')]) == 1
    out = capsys.readouterr().out
    assert 'ValueError: invalid literal for int()' in out
    assert int(re.search(r'(\d+) failures', out)[1]) > 1
    assert list((tmp_path / 'kept').iterdir())
