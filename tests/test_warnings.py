"""Warnings that our own code causes are errors; the libraries may warn."""

import runpy
import warnings

import pytest

from mmhybrid.stacks import ROOT

SOURCES = [
    ROOT / 'setup.py',
    *(path for folder in ('configs', 'mmhybrid', 'tests', 'tools')
      for path in sorted((ROOT / folder).rglob('*.py'))),
]  # fmt: skip
TOOLS = [path.stem for path in sorted((ROOT / 'tools').glob('*.py'))]


def warn(module: str) -> None:
    warnings.warn_explicit('old', DeprecationWarning, f'{module}.py', 1, module)


@pytest.mark.parametrize('module', ['mmhybrid', 'mmhybrid.models.layers', __name__, *TOOLS])
def test_ours_are_errors(module):
    with pytest.raises(DeprecationWarning, match='old'):
        warn(module)


def test_of_a_tool_that_runpy_runs(tmp_path):
    tool = tmp_path / 'tool.py'
    tool.write_text("import warnings\nwarnings.warn('old', FutureWarning)\n")
    with pytest.raises(FutureWarning, match='old'):
        runpy.run_path(str(tool))


@pytest.mark.parametrize('module', ['torch.functional', 'mmdet.models', 'train_something'])
def test_those_of_libraries_are_not(module):
    with warnings.catch_warnings(record=True):  # as the filters say, but not printed
        warn(module)


def test_sources_compile_without_one():
    """Of a stray escape, or an `is` with a number, Python warns when it compiles, once."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for path in SOURCES:
            compile(path.read_text('utf-8'), str(path), 'exec', dont_inherit=True)
    assert len(SOURCES) > len(TOOLS) > 0
