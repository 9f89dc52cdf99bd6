"""The page on adding a backbone, followed to the letter in a copy of the checkout."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.docs.pages import DOCS, ROOT, blocks, commands

PAGE = DOCS / 'contribute' / 'add.md'
READ = """
from mmengine.config import Config
from mmhybrid.registry import MODELS
from tools._zoo import FAMILIES, NAME
name = 'demo_upernet_convtower_t.py'
cfg = Config.fromfile(f'configs/{name}')
backbone = MODELS.build(cfg.model.backbone)
assert type(backbone).__name__ == FAMILIES[NAME.fullmatch(name)['family']]
assert list(backbone.out_channels) == cfg.model.decode_head.in_channels
assert backbone.out_channels[2] == cfg.model.auxiliary_head.in_channels
print(type(backbone).__name__)
"""


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A copy with the page's files made and its patches applied."""
    root = tmp_path_factory.mktemp('checkout')
    for part in ('configs', 'mmhybrid', 'tests', 'tools'):
        ignored = shutil.ignore_patterns('__pycache__', 'golden')
        shutil.copytree(ROOT / part, root / part, ignore=ignored)
    shutil.copy(ROOT / 'pyproject.toml', root)
    for block in blocks('python', 'diff'):
        if block.page != PAGE:
            continue
        if block.language == 'diff':
            apply = ['git', 'apply', '--recount', '-']
            subprocess.run(apply, cwd=root, input=f'{block.text}\n', text=True, check=True)
        else:
            name, _, text = block.text.removeprefix('# ').partition('\n')
            assert not (root / name).exists()
            (root / name).write_text(f'{text}\n')
    return root


def run(checkout, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env={**os.environ, 'PYTHONPATH': str(checkout), 'PYTHONSAFEPATH': '1'},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_tests_pass(checkout):
    lines = [
        words for block in blocks('console') if block.page == PAGE for words in commands(block)
    ]
    tests = [words[-1] for words in lines if words[:3] == ['python', '-m', 'pytest']]
    assert len(tests) == 2
    assert ' passed' in run(checkout, '-m', 'pytest', '-q', *tests)
    (program,) = (words[2] for words in lines if words[1] == '-c')
    assert run(checkout, '-c', program) == '(24, 48, 96, 192)\n'


def test_its_config_fits(checkout):
    assert run(checkout, '-c', READ).split()[-1] == 'ConvTower'
