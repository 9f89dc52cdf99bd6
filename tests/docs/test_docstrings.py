"""Everything public in the package has a docstring, unless its base class describes it."""

import ast

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


def test_the_check_sees_what_is_missing():
    tree = ast.parse('class A:\n    """A."""\n    def f(self): ...\ndef g(): ...\ndef _h(): ...')
    assert list(undocumented(tree, 'm')) == ['m.A.f', 'm.g']
