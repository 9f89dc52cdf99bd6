"""Charts as SVG that stands in a page, readable on light and on dark ground."""

import io
import itertools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

INK = '#0a0b0c'  # stands for the page's text colour, which SVG knows as currentColor
COLORS = ('#3b82d6', '#e07b2a', '#3d9c58', '#c2508f', '#8b6fd6', '#b8941f', '#3f9fa3', '#d05a4e')
MOST_BARS = 24
MOST_LETTERS = 60  # of a label
LONG_LABEL = 25  # letters; two of them in a line leave no room for the curves


def chart(draw: Callable, width: float = 5.0, height: float = 3.0) -> str:
    """The SVG of one set of axes that ``draw`` fills; sizes are inches of 96 pixels."""
    import matplotlib
    from cycler import cycler

    style: dict[Any, Any] = {
        'svg.fonttype': 'none',  # text stays text, in the page's font
        'svg.hashsalt': getattr(draw, '__qualname__', 'chart'),
        'text.color': INK,
        'axes.labelcolor': INK,
        'axes.edgecolor': INK,
        'xtick.color': INK,
        'ytick.color': INK,
        'axes.grid': True,
        'axes.axisbelow': True,
        'grid.alpha': 0.25,
        'grid.color': INK,
        'axes.spines.top': False,
        'axes.spines.right': False,
        'font.size': 10,
        'legend.frameon': False,
        'axes.prop_cycle': cycler(color=COLORS),
    }
    with matplotlib.rc_context(style):
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), layout='constrained')
        figure.patch.set_alpha(0)
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        out = io.StringIO()
        figure.savefig(out, format='svg', metadata=dict(Date=None))
    svg = out.getvalue()
    svg = svg[svg.index('<svg') :].replace(INK, 'currentColor')
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.S)
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r'\1', svg, count=1)  # the page sets the size
    return re.sub(r'(<svg [^>]*?) height="[^"]*"', r'\1', svg, count=1)


def distinct_ids(page: str) -> str:
    """A page whose charts share no ids: they are numbered, and those that nothing refers to go."""
    numbers = itertools.count(1)

    def rename(match):
        svg, tag = match[0], f'chart{next(numbers)}-'
        wanted = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
        svg = re.sub(
            r' id="([^"]*)"', lambda m: f' id="{tag}{m[1]}"' if m[1] in wanted else '', svg
        )
        return re.sub(r'(url\(|href=")#', rf'\1#{tag}', svg)

    return re.sub(r'<svg .*?</svg>', rename, page, flags=re.S)


def lines(
    series: Mapping, x_label: str, y_label: str = '', named: bool = False, **limits: Any
) -> str:
    """Curves: label -> (x, y); ``named``: a single one has its label too."""
    columns = 1 if max(map(len, series), default=0) > LONG_LABEL else 2
    rows = math.ceil(len(series) / columns)  # of the legend

    def draw(axes):
        for label, (x, y) in series.items():
            marker = 'o' if len(x) < 15 else None
            axes.plot(x, y, label=_plain(label), linewidth=1.5, marker=marker, markersize=3)
        axes.set(xlabel=x_label, ylabel=y_label, **limits)
        if 'xlim' not in limits:  # steps or epochs
            axes.xaxis.get_major_locator().set_params(integer=True)
        if named or len(series) > 1:
            axes.legend(loc='lower left', bbox_to_anchor=(0, 1), fontsize=8, ncols=columns)

    return chart(draw, height=max(3.2, 2.4 + 0.17 * rows))


def bars(values: Mapping[str, float], x_label: str = '') -> str:
    """A bar for each label; of many only the highest and lowest are shown."""
    items = list(values.items())
    if len(items) > MOST_BARS:
        items = [item for item in items if not math.isnan(item[1])]
        items.sort(key=lambda item: -item[1])
        half = MOST_BARS // 2
        items = [*items[:half], ('...', float('nan')), *items[-half:]]

    def draw(axes):
        place = range(len(items))
        axes.barh(place, np.nan_to_num([value for _, value in items]), color=COLORS[0])
        for y, (_, value) in enumerate(items):
            text, end = ('none', 0) if math.isnan(value) else (f'{value:.3f}', value)
            axes.annotate(
                text, (end, y), (4, 0), textcoords='offset points', va='center', fontsize=8
            )
        axes.set_yticks(place, [_plain(label) for label, _ in items])
        axes.invert_yaxis()
        axes.set_xlabel(x_label)
        axes.set_xlim(0, 1.1)
        axes.grid(axis='y', visible=False)

    return chart(draw, height=0.9 + 0.24 * len(items))


def intervals(
    values: Mapping[str, tuple[float, float]], x_label: str, from_zero: bool = False
) -> str:
    """A dot for each label, with a line to both sides: label -> (mean, standard deviation)."""
    labels = [_plain(label) for label in values]

    def draw(axes):
        place = range(len(values))
        means = [mean for mean, _ in values.values()]
        spreads = [spread for _, spread in values.values()]
        axes.errorbar(means, place, xerr=spreads, fmt='o', markersize=4, color=COLORS[0])
        axes.set_yticks(place, labels, fontsize=8)
        axes.set_ylim(len(values) - 0.5, -0.5)  # the first one at the top
        axes.set_xlabel(x_label)
        if from_zero:
            axes.set_xlim(left=0)

    longest = max(map(len, labels), default=0)
    return chart(draw, width=max(5.0, 3.0 + 0.07 * longest), height=0.9 + 0.24 * len(values))


def matrix(counts: np.ndarray, labels: list[str]) -> str:
    """A confusion matrix: shares of each row as shades, counts as numbers."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)

    def draw(axes):
        from matplotlib.colors import to_rgb

        rgba = np.zeros((*counts.shape, 4))
        rgba[..., :3] = to_rgb(COLORS[0])
        rgba[..., 3] = shares  # on any ground, what is rare is pale
        axes.imshow(rgba, aspect='auto')
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                if count:
                    axes.text(j, i, _short(count), ha='center', va='center', fontsize=8)
        names = [_plain(label) for label in labels]
        axes.set_xticks(range(len(labels)), names, rotation=45, ha='right')
        axes.set_yticks(range(len(labels)), names)
        axes.set(xlabel='predicted', ylabel='true')
        axes.grid(visible=False)

    side = max(3.2, 1.2 + 0.45 * len(labels))
    return chart(draw, width=max(side, 5), height=side)


def _plain(label: str) -> str:
    """A label as it is, but short: matplotlib takes `$` for mathematics, and hides `_name`."""
    if len(label) > MOST_LETTERS:
        label = f'{label[: MOST_LETTERS - 1]}\u2026'
    if label.startswith('_'):
        label = f'\u200b{label}'  # a space without width
    return label.replace('$', r'\$')


def _short(count: int) -> str:
    """A count of at most four digits, or in thousands or millions."""
    for least, unit, letter in ((10**7, 10**6, 'M'), (10**4, 10**3, 'k')):
        if count >= least:
            return f'{count / unit:.0f}{letter}'
    return str(count)
