"""Every block of code in the documentation is run, or read as what it is."""

import ast
import importlib
import inspect
import json
import textwrap

import pytest
import yaml

from mmhybrid import registry
from tests.docs.pages import blocks

REGISTRIES = [it for it in vars(registry).values() if isinstance(it, registry.Registry)]
REGISTRIES = [it for it in REGISTRIES if it.scope == 'mmhybrid']
PYTHON = [pytest.param(block, id=str(block)) for block in blocks('python')]
# Blocks that begin so are complete programs of torch and mmhybrid alone.
PROGRAMS = [
    param
    for param in PYTHON
    if param.values[0].text.startswith(('import torch\n', 'import mmhybrid\n'))
]


def read(text):
    """The syntax tree of a block; arguments that stand alone are those of a dict."""
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.parse(f'dict(\n{textwrap.indent(text, "    ")}\n)')


def test_there_are_blocks():
    assert len(PYTHON) > 5
    assert len(PROGRAMS) > 2


@pytest.mark.parametrize('block', PROGRAMS)
def test_program_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, str(block), 'exec'), {'__name__': '__main__'})


@pytest.mark.parametrize('block', PYTHON)
def test_python(block):
    if '...' in block.text or block.page.name == 'add.md':
        return  # an excerpt, or files that are not there: see test_add.py
    tree = read(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            module = importlib.import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names)
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'dict':
            check_dict({word.arg: word.value for word in node.keywords})


def check_dict(words):
    """A dict(type='mmhybrid.X', ...) names a class of ours and only arguments that it has."""
    kind = getattr(words.get('type'), 'value', None)
    if not str(kind).startswith('mmhybrid.'):
        return
    found = [it.get(kind.removeprefix('mmhybrid.')) for it in REGISTRIES]
    found = [cls for cls in found if cls is not None and cls.__module__.startswith('mmhybrid.')]
    assert found, f'{kind} is in no registry'
    parameters = inspect.signature(found[0].__init__).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return
    # The first is self; the optimizer is handed to a wrapper's constructor by mmengine.
    allowed = {*list(parameters)[1:], 'type', '_delete_', *HOOK_OPTIONS}
    assert set(words) <= allowed, f'{kind} has no {set(words) - allowed}'


HOOK_OPTIONS = ('priority', 'optimizer', 'constructor', 'paramwise_cfg')


@pytest.mark.parametrize('block', [pytest.param(b, id=str(b)) for b in blocks('json', 'yaml')])
def test_data(block):
    assert (json.loads if block.language == 'json' else yaml.safe_load)(block.text)
