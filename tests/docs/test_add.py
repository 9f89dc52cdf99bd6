"""The page on adding a backbone, followed to the letter in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, Block, blocks, commands

PAGE = DOCS / 'contribute' / 'add.md'
HEADINGS = [
    number
    for number, line in enumerate(PAGE.read_text().splitlines(), start=1)
    if line.startswith('## ')
]
# Parts of a checkout that the page or the tests of all families read.
PARTS = (
    *('CHANGELOG.md', 'CONTRIBUTING.md', 'Makefile', 'README.md', 'configs', 'docs', 'mmhybrid'),
    *('model-index.yml', 'pyproject.toml', 'requirements', 'tests', 'tools'),
)
# By hand, for a backbone; what the commands of the page make of it.
WRITTEN = {
    'CHANGELOG.md',
    'configs/demo_upernet_convtower_t.py',
    'mmhybrid/models/backbones/__init__.py',
    'mmhybrid/models/backbones/conv_tower.py',
    'tests/models/backbones/test_conv_tower.py',
}
MADE = {'configs/README.md', 'docs/counts.json'}
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


@dataclass
class Copy:
    """A copy of the checkout, and the files that differ in it after each kind of step."""

    root: Path
    written: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)

    def changes(self) -> set[str]:
        paths = {path.relative_to(self.root) for path in self.root.rglob('*') if path.is_file()}
        return {
            str(path)
            for path in paths
            if '__pycache__' not in path.parts
            and not (
                (ROOT / path).is_file()
                and (ROOT / path).read_bytes() == (self.root / path).read_bytes()
            )
        }

    def write(self, block: Block) -> None:
        """Make a file of the page, or apply a patch, wherever its first lines stand by now."""
        if block.language == 'diff':
            apply = ['git', 'apply', '--recount', '--unidiff-zero', '-']
            subprocess.run(apply, cwd=self.root, input=f'{block.text}\n', text=True, check=True)
        else:
            name, _, text = block.text.removeprefix('# ').partition('\n')
            assert not (self.root / name).exists()
            (self.root / name).write_text(f'{text}\n')

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.root,
            env={
                **os.environ,
                'PYTHONPATH': str(self.root),
                'PYTHONDONTWRITEBYTECODE': '1',
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def of_page(*languages: str, section: int) -> list[Block]:
    """The blocks of a section, counted from 0."""
    first, last = [*HEADINGS, sys.maxsize][section : section + 2]
    return [it for it in blocks(*languages) if it.page == PAGE and first < it.line < last]


def console(section: int) -> list[list[str]]:
    """The Python commands of a section."""
    return [words[1:] for it in of_page('console', section=section) for words in commands(it)]


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A copy in which the page was followed, section by section."""
    if (ROOT / 'mmhybrid/models/backbones/conv_tower.py').exists():
        pytest.skip('the page was followed in this checkout')
    copy = Copy(tmp_path_factory.mktemp('checkout'))
    ignored = shutil.ignore_patterns('__pycache__', 'golden', '_build')
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, copy.root / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, copy.root)
    assert copy.changes() == set()
    for block in of_page('python', 'diff', section=0):
        copy.write(block)
    copy.written = copy.changes()
    for words in console(0):
        if words[0] in ('docs/count.py', 'tools/make_metafiles.py'):
            copy.run(*words)
    copy.made = copy.changes() - copy.written
    for block in of_page('python', 'diff', section=1):
        copy.write(block)
    return copy


def test_five_files_are_written_by_hand(checkout):
    assert checkout.written == WRITTEN
    assert checkout.made == MADE


def test_one_line_names_it(checkout):
    name = 'mmhybrid/models/backbones/__init__.py'
    before, after = ((root / name).read_text().splitlines() for root in (ROOT, checkout.root))
    added = [line for line in after if line not in before]
    assert len(added) == 1 and [line for line in after if line not in added] == before


@pytest.fixture(scope='module')
def steps(checkout):
    """The files of tests that the page calls pytest on, and the program it runs."""
    lines = [*console(0), *console(1)]
    (program,) = (words[1] for words in lines if words[0] == '-c')
    return [words[-1] for words in lines if words[:2] == ['-m', 'pytest']], program


def test_its_program_runs_and_its_config_fits(checkout, steps):
    _, program = steps
    said = checkout.run('-c', f'{program}\n{READ}')
    assert said.startswith('(24, 48, 96, 192)\n') and said.split()[-1] == 'ConvTower'


# Files of the tests that go through all families, and how many there are of one more, at least.
TABLES = {
    'tests/configs': 2,
    'tests/deploy/test_export.py': 1,
    'tests/docs': 4,
    'tests/endurance': 1,
    'tests/engine/test_optim.py': 1,
    'tests/models/backbones/test_arch.py': 1,
    'tests/models/test_compile.py': 2,
    'tests/models/test_gpu.py': 4,
    'tests/models/test_modules.py': 8,
    'tests/properties': 5,
}


def test_its_tests_pass_and_all_families_have_one_more(checkout, steps):
    """As the whole suite does, for which there is no time: what is about this one or about all."""
    own, _ = steps
    assert len(own) == 2
    chosen = 'convtower or conv_tower or every_family or every_pair or counts or every_file'
    done = checkout.run('-m', 'pytest', '-v', '-k', chosen, *own, *TABLES)
    passed = re.findall(r'^(tests/[\w/.]+)::.* PASSED', done, re.MULTILINE)
    for table, least in (TABLES | dict.fromkeys(own, 1)).items():
        assert sum(file.startswith(table) for file in passed) >= least, done
