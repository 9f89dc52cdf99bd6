"""List and search the names that --weights and init_cfg take, without fetching anything.

    mmhybrid weights [WORD ...] [--json]

Each WORD must occur in a name, in its source or in what is said of it: mmhybrid weights dinov2,
or "on request". Paths, addresses and hf://ORG/NAME are taken too; docs/weights.md has them.
"""

import argparse
import json
import textwrap
from typing import TYPE_CHECKING

from .usage import UsageError

WIDTH = 100  # of a line that is printed

if TYPE_CHECKING:
    from ..checkpoints.names import OfficialFile


def main(argv: list[str] | None = None) -> list[str]:
    """Print the names that match, and return them."""
    from ..checkpoints import OFFICIAL_FILES, cache_folder

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('words', nargs='*', metavar='WORD', help='name, source, remark')
    parser.add_argument('--json', action='store_true', help='print a JSON list')
    args = parser.parse_args(argv)
    folder = cache_folder()
    rows = []
    for name, official in OFFICIAL_FILES.items():
        here = (folder / official.file_name).is_file()
        row = dict(name=name, source=official.publication.source, remark=_remark(official, here),
                   licence=official.publication.licence)  # fmt: skip
        line = '\n'.join(row.values()).lower()
        if all(word.lower() in line for word in args.words):
            rows.append(row)
    if not rows:
        raise UsageError(
            f'none of {len(OFFICIAL_FILES)} names has {" and ".join(args.words)}; without a word '
            'all are listed'
        )
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        _print(rows)
        print(f'{len(rows)} of {len(OFFICIAL_FILES)} names; fetched files lie in {folder}')
    return [row['name'] for row in rows]


def _remark(official: 'OfficialFile', here: bool) -> str:
    if official.refusal:
        return f'not taken: {official.refusal}'
    if here:
        return 'fetched'
    if official.request:
        other = f', or {official.other} without asking' if official.other else ''
        return f'on request: {official.request}{other}'
    return ''


def _print(rows: list[dict[str, str]]) -> None:
    """Print names below their source, and below it once what binds their use."""
    width = max(len(row['name']) for row in rows)
    before = None
    for row in rows:
        if row['source'] != before:
            print(row['source'])
            if row['licence']:
                print(_wrap(f'under {row["licence"]}', '  '))
            before = row['source']
        line = f'  {row["name"]:{width}}  {row["remark"]}'.rstrip()
        print(line if len(line) <= WIDTH else f'  {row["name"]}\n{_wrap(row["remark"], "      ")}')


def _wrap(text: str, indent: str) -> str:
    """Break a text into indented lines; addresses stay whole."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
