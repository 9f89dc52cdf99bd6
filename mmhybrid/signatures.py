"""Signatures and docstrings of backbones, completed from the records of their architectures."""

import inspect
import re
import textwrap
from typing import Any, get_type_hints

VAR_POSITIONAL, VAR_KEYWORD = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY


def complete_signature(backbone: type[Any]) -> inspect.Signature:
    """Return the signature of a constructor, with the arguments it hands on as ``**kwargs``.

    Its own parameters come first, then the options of its ``arch_type``, all None by default, then
    the parameters of the next constructor, as long as there is ``**kwargs``.
    """
    found: dict[str, inspect.Parameter] = {}
    by_position = True
    for base in backbone.__mro__:
        if '__init__' not in vars(base):
            continue
        parameters = list(inspect.signature(vars(base)['__init__']).parameters.values())[1:]
        kinds = {one.kind for one in parameters}
        for one in parameters:
            if one.kind not in (VAR_POSITIONAL, VAR_KEYWORD):
                found.setdefault(one.name, one if by_position else one.replace(kind=KEYWORD_ONLY))
        by_position = by_position and VAR_POSITIONAL in kinds
        if VAR_KEYWORD in kinds or base is not backbone:
            hints = get_type_hints(backbone.arch_type)
            for name in backbone.arch_type.options():
                given = dict(default=None, annotation=hints[name] | None)
                found.setdefault(name, inspect.Parameter(name, KEYWORD_ONLY, **given))
        if VAR_KEYWORD not in kinds:
            break
    return inspect.Signature(sorted(found.values(), key=lambda one: one.kind))


def complete_doc(backbone: type[Any], root: type) -> str | None:
    """Return the docstring of a backbone, with all parameters of its signature under Args.

    The text is that of the class itself, of the option, or of the nearest base up to ``root``. A
    docstring without a section Args stays as it is.
    """
    doc = vars(backbone).get('__doc__')
    own = _entries(doc)
    if doc is None or not own:
        return doc
    texts: dict[str, str] = {}
    for base in reversed(backbone.__mro__[1:]):
        if issubclass(base, root):
            texts.update(_entries(vars(base).get('__doc__')))
    for name, it in backbone.arch_type.options().items():
        texts[name] = f'* {it.metadata["doc"]}{_spoken_default(it.metadata["default"])}.'
    if 'arch' in own:
        own['arch'] += f' {backbone.arch_type.describe()}'
    said = {name for names in own for name in names.split(', ')}
    names = [
        name for name in inspect.signature(backbone).parameters if name in own or name in texts
    ]
    shared = [name for name in own if name not in names]  # entries of several parameters
    texts.update(own)
    lines = [
        textwrap.fill(
            f'{name}: {texts[name]}',
            width=100,
            initial_indent=' ' * 4,
            subsequent_indent=' ' * 8,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for name in shared + [name for name in names if name in own or name not in said]
    ]
    before, section, after = _split(doc)
    return '\n'.join([*before, section[0], *lines, *after])


def _split(doc: str) -> tuple[list[str], list[str], list[str]]:
    """Split a docstring into the lines before the section Args, its lines, and those after."""
    lines = inspect.cleandoc(doc).splitlines()
    start = lines.index('Args:') if 'Args:' in lines else len(lines)
    stop = start + 1
    while stop < len(lines) and lines[stop].startswith(' '):
        stop += 1
    return lines[:start], lines[start:stop], lines[stop:]


def _entries(doc: str | None) -> dict[str, str]:
    """Read the section Args: texts by parameter, or by parameters as in ``x, y: text``."""
    entries: dict[str, str] = {}
    for line in _split(doc or '')[1][1:]:
        begins = re.fullmatch(r' {4}(\w[\w, ]*): (.*)', line)
        if begins:
            names = begins[1]
            entries[names] = begins[2]
        elif entries:
            entries[names] += f' {line.strip()}'
    return entries


def _spoken_default(value: Any) -> str:
    """Write the end of an option's sentence; '' for None, which its text explains."""
    if value is None:
        return ''
    if isinstance(value, dict):
        value = f'dict({", ".join(f"{key}={one!r}" for key, one in value.items())})'
        return f'; default ``{value}``'
    return f'; default ``{value!r}``' if isinstance(value, str) else f'; default {value}'
