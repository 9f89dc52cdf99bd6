"""Every error message of the package, read from its code, and what errors.yml says of it.

    python docs/error_messages.py

prints the list as Markdown, which `{errors}` puts into a page.
"""

import ast
from fnmatch import fnmatch
from pathlib import Path

import yaml

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
SOURCE = DOCS / 'errors.yml'
ANY = '…'  # stands for what differs from case to case
CALLS = ('sys.exit', 'parser.error')


def template(node: ast.expr | None) -> str:
    """The text of an expression, with … for what is only known when it is raised."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (template(p) if isinstance(p, ast.Constant) else ANY for p in node.values)
        return ''.join(parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left) + template(node.right)
    if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'format':
        return template(node.func.value).replace('{}', ANY)
    return ANY


def messages() -> dict[str, list[tuple[str, str]]]:
    """For each file of the package and its tools, kind and message of what it raises."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted([*ROOT.glob('mmhybrid/**/*.py'), *ROOT.glob('tools/*.py')]):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            call = node.exc if isinstance(node, ast.Raise) else node
            if not isinstance(call, ast.Call) or not call.args:
                continue
            kind = ast.unparse(call.func)
            if not isinstance(node, ast.Raise) and kind not in CALLS:
                continue
            text = template(call.args[0])
            if any(part.isalpha() for part in text.replace(ANY, ' ').split()):
                entry = ('error' if kind in CALLS else kind.split('.')[-1], text)
                entries = found.setdefault(str(path.relative_to(ROOT)), [])
                if entry not in entries:
                    entries.append(entry)
    return found


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
