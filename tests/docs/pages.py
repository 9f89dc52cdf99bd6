"""The pages of the documentation, their blocks of code and their commands."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs'
FENCE = re.compile(r'^( *)(`{3,}|:{3,})([^\n`]*)\n(.*?)^\1\2 *$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, what stands after the fence, and the lines between."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f'{self.page.relative_to(ROOT)}:{self.line}'


def pages() -> list[Path]:
    """README, CONTRIBUTING, every page of the site and of the configs."""
    found = [path for path in DOCS.rglob('*.md') if '_build' not in path.parts]
    configs = sorted(ROOT.glob('configs/**/README.md'))
    return [ROOT / 'README.md', *ROOT.glob('CONTRIBUTING.md'), *sorted(found), *configs]


def blocks(*languages: str) -> list[Block]:
    """All blocks of these languages."""
    found = []
    for page in pages():
        content = page.read_text(encoding='utf-8')
        for match in FENCE.finditer(content):
            indent, _, language, text = match.groups()
            if language.strip() in languages:
                lines = [line.removeprefix(indent) for line in text.splitlines()]
                number = content.count('\n', 0, match.start()) + 1
                found.append(Block(page, number, language.strip(), '\n'.join(lines)))
    return found


def prose(page: Path) -> str:
    """A page without its blocks and without code between backticks."""
    return re.sub(r'`[^`\n]*`', '', FENCE.sub('', page.read_text(encoding='utf-8')))


def commands(block: Block) -> list[list[str]]:
    """The commands of a console block as words, without variables set before them."""
    text = block.text.replace('\\\n', ' ')
    found = []
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r'[A-Za-z_]+=.*', words[0]):
            words = words[1:]
        if words:
            found.append(words)
    return found
