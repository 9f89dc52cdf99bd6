"""List and search the configs, with what each trains, its size, and the published figure.

    mmhybrid configs [WORD ...] [--json]

Each WORD must occur in a config's name or in a column: mmhybrid configs maskrcnn vitcomer, or
"Pascal VOC", or dinov2. Parameters (M) and multiply-adds (GMAC) are counted, the figures are those
of the papers; docs/zoo.md has the sizes of input and the sources.
"""

import argparse
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..config_files import config_folder, list_configs
from .usage import UsageError


@dataclass(frozen=True)
class Entry:
    """A config as its metafile describes it."""

    name: str
    family: str
    head: str
    backbone: str
    data: str
    weights: str
    params: int
    flops: int
    published: dict[str, float] = field(default_factory=dict)

    def matches(self, words: list[str]) -> bool:
        """Return True if each word occurs in the name or a column, in any case."""
        texts = (self.name, self.family, self.head, self.backbone, self.data, self.weights)
        line = '\n'.join(texts).lower()
        return all(word.lower() in line for word in words)


def read_entries() -> list[Entry]:
    """Return all configs of the metafiles, in their order.

    Raises:
        FileNotFoundError: this installation came without configs.
    """
    import yaml

    root = config_folder().parent
    index = yaml.safe_load((root / 'model-index.yml').read_text(encoding='utf-8'))
    entries = []
    for path in index['Import']:
        content = yaml.safe_load((root / path).read_text(encoding='utf-8'))
        entries += [_entry(model) for model in content['Models']]
    return entries


def _entry(model: dict) -> Entry:
    about = model['Metadata']
    head, backbone = about['Architecture']
    figures = {
        name: value
        for result in model.get('Results', ())
        for name, value in result['Metrics'].items()
    }
    return Entry(
        name=Path(model['Config']).stem,
        family=model['In Collection'],
        head=head,
        backbone=backbone,
        data=about.get('Training Data', ''),
        weights=about.get('Pretrained Weights', ''),
        params=about['Parameters'],
        flops=about['FLOPs'],
        published=figures,
    )


def main(argv: list[str] | None = None) -> list[Entry]:
    """Print the configs that match, and return them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'words', nargs='*', metavar='WORD', help='name, head, family, data, weights'
    )
    parser.add_argument('--json', action='store_true', help='print a JSON list')
    args = parser.parse_args(argv)
    entries = read_entries()
    found = [entry for entry in entries if entry.matches(args.words)]
    described = {entry.name for entry in entries}
    others = [name for name in list_configs() if name not in described]
    others = [name for name in others if all(word.lower() in name for word in args.words)]
    if not found and not others:
        raise UsageError(
            f'none of {len(entries)} configs has {" and ".join(args.words)}; a word may be of: '
            + '; '.join(sorted({entry.head for entry in entries} | {e.family for e in entries}))
        )
    if args.json:
        undescribed = [dict(name=name) for name in others]
        print(json.dumps([*map(asdict, found), *undescribed], indent=2))
    else:
        if found:
            print(_table(found))
        print(f'{len(found)} of {len(entries)} recipes')
        if others:
            print(f'demos, and those for your own data: {", ".join(others)}')
    return found


def _table(entries: list[Entry]) -> str:
    rows = [('config', 'head', 'backbone', 'data', 'weights', 'M', 'GMAC', 'published')]
    for entry in entries:
        figures = ', '.join(f'{name} {value}' for name, value in entry.published.items())
        rows.append((
            entry.name,
            entry.head,
            entry.backbone,
            entry.data,
            entry.weights,
            f'{entry.params / 1e6:.1f}',
            f'{entry.flops / 1e9:.0f}',
            figures,
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join(
        '  '.join(f'{text:{width}}' for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
