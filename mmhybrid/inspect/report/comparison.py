"""The page of a study: what each of its models reached, at what cost, and how."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from . import charts
from .page import grid, page, table


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A model of a study.

    Attributes:
        name: of its row.
        rate: learning rate that it was trained at.
        scores: of its trainings, one a seed.
        minutes: a training took, the median.
        cpu_minutes: of all its processes together, the median.
        peak_mb: memory of its largest process, the median.
        logs: of its trainings, each the lines of its ``scalars.json`` files.
    """

    name: str
    rate: float
    scores: Sequence[float]
    minutes: float
    cpu_minutes: float
    peak_mb: float
    logs: Sequence[Sequence[Mapping]] = ()

    @property
    def mean(self) -> float:
        """Of the scores."""
        return statistics.mean(self.scores)

    @property
    def spread(self) -> float | None:
        """Standard deviation of the scores; None of a single one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None


AT_ONCE = 8  # curves in a chart


def comparison(metric: str, rows: Iterable[Compared], digits: int) -> list[list[str]]:
    """The cells of a study's table, the names of its columns first."""
    header = ['', 'rate', metric, 'spread', 'seeds', 'minutes', 'CPU minutes', 'peak MB']
    cells = [
        [it.name, f'{it.rate:g}', f'{it.mean:.{digits}f}',
         '' if it.spread is None else f'{it.spread:.{digits}f}', str(len(it.scores)),
         f'{it.minutes:.1f}', f'{it.cpu_minutes:.1f}', f'{it.peak_mb:.0f}']
        for it in rows
    ]  # fmt: skip
    return [header, *cells]


def build_comparison(title: str, metric: str, rows: Sequence[Compared], digits: int) -> str:
    """The HTML of a study.

    Args:
        metric: name of the scores, in the logs too.
        rows: its models, those with a score.
        digits: of the scores, after the point.
    """
    if not rows:
        return page(title, 'No model has a score.', [])
    header, *cells = comparison(metric, rows, digits)
    scores = {it.name: (it.mean, it.spread or 0.0) for it in rows}
    costs = {it.name: (it.cpu_minutes, 0.0) for it in rows}
    drawn = [
        (f'{metric}, mean and standard deviation', charts.intervals(scores, metric)),
        ('Cost of a training', charts.intervals(costs, 'CPU minutes', from_zero=True)),
    ]
    curves = [
        (name, charts.lines(series, 'step', named=True))
        for name, key in ((f'{metric} on the validation images', metric), ('Training loss', 'loss'))
        for first in range(0, len(rows), AT_ONCE)
        if (series := _series(rows[first : first + AT_ONCE], key))
    ]
    sections = [('Results', table('', header, cells, with_total=False) + grid(drawn))]
    if curves:
        note = 'Means over the seeds. Losses of different heads do not compare.'
        sections.append(('Curves', f'<p class="note">{note}</p>{grid(curves)}'))
    return page(title, f'Models: {len(rows)}', sections)


def _series(rows: Iterable[Compared], key: str) -> dict[str, tuple[list, list]]:
    """Means of a logged value by step, of the models that have several."""
    series = {}
    for row in rows:
        found: dict[int, list[float]] = {}
        for log in row.logs:
            known = (it for it in log if 'step' in it and it.get(key) is not None)
            # A resumed run replaces its steps.
            for step, value in {it['step']: it[key] for it in known}.items():
                found.setdefault(step, []).append(value)
        if len(found) > 1:
            steps = sorted(found)
            series[row.name] = (steps, [statistics.mean(found[step]) for step in steps])
    return series
