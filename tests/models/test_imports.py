"""Imports within the models point one way: backbones and necks, layers, kernels."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mmhybrid

ROOT = Path(mmhybrid.__file__).parent
MODELS = ROOT / 'models'
FILES = sorted(MODELS.rglob('*.py'))
ABOVE = {'kernels': {'layers', 'backbones', 'necks'}, 'layers': {'backbones', 'necks'}}
ENGINE = re.compile(r'device\.type|is_cuda|is_compiling|is_grad_enabled')


def module_of(path):
    parts = ('mmhybrid', *path.relative_to(ROOT).with_suffix('').parts)
    return '.'.join(parts).removesuffix('.__init__')


NAMES = {module_of(path): path for path in FILES}


def imports_of(path, text):
    """Modules of the models that a file imports, packages as such."""
    package = module_of(path).split('.')[: None if path.name == '__init__.py' else -1]
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = '.'.join([*base, *(node.module or '').split('.')]).strip('.')
            names = {f'{base}.{alias.name}' for alias in node.names}
            found |= names & set(NAMES) or {base}
    return found & set(NAMES)


def test_imports_are_read():
    text = 'import torch\nfrom . import pyramid\nfrom ..layers import Mlp\nfrom .graphs import x'
    found = imports_of(MODELS / 'kernels/resize.py', text)
    names = ('kernels.pyramid', 'layers', 'kernels.graphs')
    assert found == {f'mmhybrid.models.{name}' for name in names}
    text = 'def f():\n    import mmhybrid.models.necks\n    from mmhybrid.models.layers import mlp'
    found = imports_of(MODELS / 'layers/__init__.py', text)
    assert found == {'mmhybrid.models.necks', 'mmhybrid.models.layers.mlp'}


@pytest.mark.parametrize('folder', ABOVE)
def test_nothing_imports_what_is_above_it(folder):
    paths = [path for path in FILES if path.parent == MODELS / folder]
    assert paths
    for path in paths:
        parts = {name.split('.')[2] for name in imports_of(path, path.read_text())}
        assert not parts & ABOVE[folder], path


def test_imports_make_no_circle():
    graph = {name: imports_of(path, path.read_text()) for name, path in NAMES.items()}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index('mmhybrid.models.kernels') < order.index('mmhybrid.models.layers')


def test_layers_are_short():
    lengths = {p.name: len(p.read_text().splitlines()) for p in (MODELS / 'layers').glob('*.py')}
    assert lengths
    assert not {name: length for name, length in lengths.items() if length > 150}


def test_backbones_know_no_device_and_no_compiler():
    paths = list((MODELS / 'backbones').glob('*.py'))
    assert paths
    assert not [(p.name, m.group()) for p in paths for m in ENGINE.finditer(p.read_text())]
    assert ENGINE.search((MODELS / 'kernels/graphs.py').read_text())
