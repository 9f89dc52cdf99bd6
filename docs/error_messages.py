"""Every error message of the package, read from its code, and what errors.yml says of it.

    python docs/error_messages.py

prints the list as Markdown, which `{errors}` puts into a page.
"""

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import yaml

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
SOURCE = DOCS / 'errors.yml'
ANY = '…'  # stands for what differs from case to case
CALLS = ('sys.exit', 'parser.error')
FINDINGS = ('findings.error', 'findings.warning', 'problems.error', 'problems.warning')
PROBLEM = 'Problem'  # of the doctor: its second argument is what is shown
Known = dict[str, ast.expr]  # what a name stands for, or what a function of that name returns


def template(node: ast.expr | None, known: Known | None = None) -> str:
    """The text of an expression, with … for what is only known when it is raised."""
    known = known or {}
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return ''.join(template(part, known) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return template(node.value, known)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left, known) + template(node.right, known)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr == 'format':
            return re.sub(r'\{[^{}]*\}', ANY, template(node.func.value, known))
        if node.func.attr == 'join' and isinstance(node.func.value, ast.Constant):
            return node.func.value.value.join(items(node.args[0], known))
    name = node.func if isinstance(node, ast.Call) else node
    if isinstance(name, ast.Name) and name.id in known:
        return template(known[name.id], {k: v for k, v in known.items() if k != name.id})
    return ANY


def items(node: ast.expr, known: Known) -> list[str]:
    """The texts in a list."""
    if isinstance(node, ast.Starred):
        node = node.value
    if isinstance(node, ast.Name) and node.id in known:
        node = known[node.id]
    if not isinstance(node, ast.List):
        return [ANY]
    return [
        text
        for item in node.elts
        for text in (
            items(item, known) if isinstance(item, ast.Starred) else [template(item, known)]
        )
    ]


def known_in(body: list[ast.stmt]) -> Known:
    """Names that are given a value once, lists with what is appended, functions with one return."""
    found: dict[str, list[ast.expr]] = {}
    appended: dict[str, list[ast.expr]] = {}
    for statement in body:
        if isinstance(statement, ast.FunctionDef):
            returned = [n.value for n in ast.walk(statement) if isinstance(n, ast.Return)]
            found.setdefault(statement.name, []).extend(returned)
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Assign | ast.AugAssign | ast.For | ast.comprehension):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    for name in ast.walk(target):
                        if isinstance(name, ast.Name):
                            value = node.value if isinstance(node, ast.Assign) else None
                            found.setdefault(name.id, []).append(value)
            elif isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'append':
                if isinstance(node.func.value, ast.Name):
                    appended.setdefault(node.func.value.id, []).append(node.args[0])
    known = {name: values[0] for name, values in found.items() if len(values) == 1}
    for name, values in appended.items():
        if isinstance(known.get(name), ast.List):
            known[name] = ast.List([*known[name].elts, *values])
    return known


def messages() -> dict[str, list[tuple[str, str]]]:
    """For each file of the package and its tools, kind and message of what it raises or reports."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted([*ROOT.glob('mmhybrid/**/*.py'), *ROOT.glob('tools/*.py')]):
        tree = ast.parse(path.read_text(encoding='utf-8'))
        for entry in raised_in(tree, known_in(tree.body)):
            entries = found.setdefault(str(path.relative_to(ROOT)), [])
            if entry not in entries:
                entries.append(entry)
    return found


def raised_in(tree: ast.AST, known: Known) -> Iterator[tuple[str, str]]:
    """Kind and message of all that is raised below a node."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            arguments = {
                argument.arg for argument in ast.walk(node.args) if hasattr(argument, 'arg')
            }
            outer = {name: value for name, value in known.items() if name not in arguments}
            yield from raised_in(node, outer | known_in(node.body))
            continue
        yield from raised_in(node, known)
        call = node.exc if isinstance(node, ast.Raise) else node
        if not isinstance(call, ast.Call) or not call.args:
            continue
        kind = ast.unparse(call.func)
        if kind.endswith(FINDINGS):
            kind = kind.split('.')[-1]
        elif kind in CALLS:
            kind = 'error'
        elif kind != PROBLEM and not isinstance(node, ast.Raise):
            continue
        text = template(call.args[kind == PROBLEM], known)
        kind = 'error' if kind == PROBLEM else kind
        if any(part.isalpha() for part in text.replace(ANY, ' ').split()):
            yield kind.split('.')[-1], text


def area_of(file: str, areas: list[dict]) -> dict | None:
    """The area that a file belongs to."""
    return next((a for a in areas if any(fnmatch(file, p) for p in a['files'])), None)


def entry(message: str, cause: str = '', cure: str = '') -> list[str]:
    """Markdown of one message."""
    lines = ['```{code-block} text', ':class: error', '', *message.strip().splitlines(), '```', '']
    if cause:
        lines += [f'{cause} **Do:** {cure}', '']
    return lines


def page() -> str:
    """Markdown of the list."""
    source = yaml.safe_load(SOURCE.read_text(encoding='utf-8'))
    lines = ['## Messages of the libraries below', '']
    for other in source['others']:
        lines += entry(other['message'], other['cause'], other['cure'])
    found = messages()
    for area in source['areas']:
        lines += [f'## {area["title"]}', '', area['about'], '']
        shown = set()
        for file, raised in found.items():
            if area_of(file, source['areas']) is not area:
                continue
            for kind, text in raised:
                if (kind, text) in shown:
                    continue
                shown.add((kind, text))
                note = next((n for n in source['notes'] if n['part'] in text), {})
                lines += entry(f'{kind}: {text}', note.get('cause', ''), note.get('cure', ''))
    return '\n'.join(lines)


if __name__ == '__main__':
    print(page())
