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
        minutes: a training took.
        cpu_minutes: of all its processes together.
        peak_mb: memory of its largest process.
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


def build_comparison(title: str, metric: str, rows: Sequence[Compared]) -> str:
    """The HTML of a study.

    Args:
        metric: name of the scores, in the logs too.
        rows: its models, those with a score.
    """
    header = ['', 'rate', metric, 'spread', 'seeds', 'minutes', 'CPU minutes', 'peak MB']
    cells = [
        [it.name, f'{it.rate:g}', it.mean, float('nan') if it.spread is None else it.spread,
         len(it.scores), it.minutes, it.cpu_minutes, round(it.peak_mb)]
        for it in rows
    ]  # fmt: skip
    scores = {it.name: (it.mean, it.spread or 0.0) for it in rows}
    costs = {it.name: (it.cpu_minutes, 0.0) for it in rows}
    drawn = [
        (f'{metric}, mean and standard deviation', charts.intervals(scores, metric)),
        ('Cost of a training', charts.intervals(costs, 'CPU minutes')),
    ]
    curves = [
        (name, charts.lines(series, 'step'))
        for name, key in ((f'{metric} on the validation images', metric), ('Training loss', 'loss'))
        if (series := _series(rows, key))
    ]
    sections = [('Results', table('', header, cells, with_total=False) + grid(drawn))]
    if curves:
        note = '<p class="note">Means over the seeds.</p>'
        sections.append(('Curves', note + grid(curves)))
    return page(title, f'{len(rows)} models', sections)


def _series(rows: Iterable[Compared], key: str) -> dict[str, tuple[list, list]]:
    """Means of a logged value by step, of the models that have several."""
    series = {}
    for row in rows:
        found: dict[int, list[float]] = {}
        for log in row.logs:
            for step, value in {it['step']: it[key] for it in log if key in it}.items():
                found.setdefault(step, []).append(value)  # a resumed run replaces its steps
        if len(found) > 1:
            steps = sorted(found)
            series[row.name] = (steps, [statistics.mean(found[step]) for step in steps])
    return series
