"""All that is public in the package has types, and a docstring unless its base has one."""

import ast
import re

import pytest

from mmhybrid.stacks import ROOT

MODULES = sorted((ROOT / 'mmhybrid').rglob('*.py'))
# Described by torch, mmengine, mmhybrid's Backbone or Adapter, or what they are in.
INHERITED = (
    'after_', 'backward', 'before_', 'build_optim_wrapper', 'build_stages', 'compute_metrics',
    'extra_repr', 'forward', 'frozen_modules', 'infer', 'loss', 'main', 'optim_context', 'put',
    'register_hooks', 'save_checkpoint', 'train', 'wrap_model',
)  # fmt: skip


def undocumented(node, path):
    """Names of public classes, functions and methods without a docstring."""
    for child in node.body:
        if isinstance(child, (ast.ClassDef, ast.FunctionDef)) and not child.name.startswith('_'):
            name = f'{path}.{child.name}'
            if not ast.get_docstring(child) and not child.name.startswith(INHERITED):
                yield name
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child, name)


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings(path):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    if tree.body:
        assert ast.get_docstring(tree), 'the module says nothing of itself'
    assert list(undocumented(tree, path.stem)) == []


def untyped(node, path, is_class=False):
    """Names of public functions and methods, special ones too, that lack an annotation."""
    for child in node.body:
        name = f'{path}.{getattr(child, "name", "")}'
        if isinstance(child, ast.ClassDef) and not child.name.startswith('_'):
            yield from untyped(child, name, is_class=True)
        if not isinstance(child, ast.FunctionDef) or re.match('_(?!_)', child.name):
            continue
        given = child.args
        taken = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        decorators = [getattr(it, 'id', '') for it in child.decorator_list]
        taken = taken[is_class and 'staticmethod' not in decorators :]  # without self
        if any(one is not None and one.annotation is None for one in taken) or (
            child.returns is None and child.name != '__init__'
        ):
            yield name


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_types(path):
    if path.name == 'finder.py':
        pytest.skip('its text is run at every start of Python, which should not import typing')
    assert list(untyped(ast.parse(path.read_text(encoding='utf-8')), path.stem)) == []


def test_the_check_of_types_sees_what_is_missing():
    tree = ast.parse(
        'def f(x): ...\ndef g(x: int): ...\ndef _h(x): ...\ndef k(*a) -> int: ...\n'
        'class A:\n def __init__(self, x: int): ...\n def m(self): ...\n def n(self) -> int: ...\n'
        ' def __call__(self, **k) -> int: ...\n'
    )
    assert list(untyped(tree, 't')) == ['t.f', 't.g', 't.k', 't.A.m', 't.A.__call__']


def test_the_check_sees_what_is_missing():
    tree = ast.parse('class A:\n    """A."""\n    def f(self): ...\ndef g(): ...\ndef _h(): ...')
    assert list(undocumented(tree, 'm')) == ['m.A.f', 'm.g']
