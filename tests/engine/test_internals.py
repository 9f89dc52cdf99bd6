"""The list of private names of other libraries is that of the code."""

import ast
import re
from pathlib import Path

import pytest

import mmhybrid
from mmhybrid.engine.internals import INTERNALS

PACKAGE = Path(mmhybrid.__file__).parent
TREES = {
    str(path.relative_to(PACKAGE)): ast.parse(path.read_text())
    for path in PACKAGE.rglob('*.py')
    if path.name != 'internals.py'
}
PRIVATE = re.compile(r'_[A-Za-z]\w*')
HOSTS = ('mmengine', 'mmdet', 'mmseg', 'mmpretrain', 'mmcv', 'torch')
PUBLIC = {'os._exit'}


def names_of_our_own():
    """Private names that the package itself defines or sets on its objects."""
    found = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                parts = [part for target in targets for part in ast.walk(target)]
                found |= {part.id for part in parts if isinstance(part, ast.Name)}
                found |= {
                    part.attr
                    for part in parts
                    if isinstance(part, ast.Attribute)
                    and ast.unparse(part.value) in ('self', 'cls')
                }
    return found


def names_of_others(tree, own):
    """Private names of other libraries in a file, and what is replaced in their classes."""
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            if node.module.split('.')[0] in HOSTS:
                imported |= {alias.asname or alias.name for alias in node.names}
                if '._' in node.module:
                    yield node.module
                yield from (a.name for a in node.names if PRIVATE.fullmatch(a.name))
        elif isinstance(node, ast.Attribute):
            if PRIVATE.fullmatch(node.attr) and node.attr not in own:
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and len(node.args) > 1:
            if getattr(node.func, 'id', '') in ('getattr', 'hasattr', 'setattr'):
                name = getattr(node.args[1], 'value', None)
                if isinstance(name, str) and PRIVATE.fullmatch(name) and name not in own:
                    yield name
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for part in (part for target in node.targets for part in ast.walk(target)):
                if isinstance(part, ast.Attribute) and getattr(part.value, 'id', '') in imported:
                    yield ast.unparse(part)


def test_the_list_is_whole():
    own = names_of_our_own()
    for file, tree in TREES.items():
        used = set(names_of_others(tree, own)) - PUBLIC
        listed = {entry.name for entry in INTERNALS if entry.file == file}
        rest = {name for name in used if not any(name.endswith(entry) for entry in listed)}
        assert not rest, f'{file}: list these in mmhybrid/engine/internals.py'
        gone = {entry for entry in listed if not any(name.endswith(entry) for name in used)}
        assert not gone, f'{file}: not used any more'


@pytest.mark.parametrize('entry', INTERNALS, ids=lambda entry: f'{entry.file}:{entry.name}')
def test_every_entry_has_a_reason(entry):
    assert entry.file in TREES and len(entry.reason) > 6
