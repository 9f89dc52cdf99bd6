"""The report of a load, in one table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LISTED = 4  # names shown of each kind


@dataclass(frozen=True)
class LoadReport:
    """The fate of every key of a file and of every name of a model.

    Attributes:
        file: the path, or what was given in its place.
        source: the published form it was recognised as.
        weights: its architecture, such as 's/14: 384 wide, 12 blocks'.
        model: the model's class; ``part``: the prefix of the submodule that was filled.
        found: where in the file the weights were: entry and prefix.
        others: other entries of the file that may hold weights.
        note: what a user has to know of the source.
        matched: names whose tensor was taken as it is.
        converted: names made from other keys or values of the file.
        resized: name -> what was done.
        neutral: names that the source never has, set to 1, which changes nothing.
        dropped: name -> the option of the model that leaves it out.
        unused: keys of the file that no backbone uses.
        untouched: names of the model outside the part, left at initialisation.
        filled, parameters: elements of the part that the file filled, and all of them.
    """

    file: str
    source: str
    weights: str
    model: str
    part: str
    found: str
    others: tuple[str, ...]
    note: str
    matched: tuple[str, ...]
    converted: tuple[str, ...]
    resized: dict[str, str]
    neutral: tuple[str, ...]
    dropped: dict[str, str]
    unused: tuple[str, ...]
    untouched: tuple[str, ...]
    filled: int
    parameters: int

    @property
    def percent(self) -> float:
        """Percent of the part's elements that the file filled."""
        return 100.0 * self.filled / max(self.parameters, 1)

    def __str__(self) -> str:
        part = f'part {self.part!r} of {self.model}' if self.part else self.model
        rows = [
            ('file', self.file + (f' [{self.found}]' if self.found else '')),
            ('source', ', '.join(filter(None, (self.source, self.weights)))),
            ('note', self.note),
            ('not taken', ', '.join(f'entry={entry!r}' for entry in self.others)),
            ('into', f'{part}, {self.percent:.1f} % of {self.parameters:,} values filled'),
            ('matched', f'{len(self.matched)} keys'),
            ('converted', listing(self.converted)),
            ('resized', notes(self.resized)),
            ('set to 1', listing(self.neutral)),
            ('dropped by option', notes(self.dropped)),
            ('unused', listing(self.unused)),
            ('left at initialisation', listing(self.untouched)),
        ]
        return table('Loaded pretrained weights', [row for row in rows if row[1]])


def table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """Format a title, and a line for each (label, text)."""
    width = max(len(label) for label, _ in rows)
    return '\n'.join([title, *(f'  {label:<{width}}  {text}' for label, text in rows)])


def listing(names: Iterable[str], count: int = LISTED) -> str:
    """Format names as '12: a, b, c, d, ...', or '0'."""
    names = list(names)
    if not names:
        return '0'
    return f'{len(names)}: ' + ', '.join(names[:count]) + (', ...' if len(names) > count else '')


def notes(by_name: Mapping[str, str]) -> str:
    """Format names and notes, each note once: 'a and 2 more: note; b: other', or '0'."""
    names: dict[str, list[str]] = {}
    for name, note in by_name.items():
        names.setdefault(note, []).append(name)
    return (
        '; '.join(
            group[0] + (f' and {len(group) - 1} more' if len(group) > 1 else '') + f': {note}'
            for note, group in names.items()
        )
        or '0'
    )
