"""The common parts of the pictures of visualize.py and analyze.py: colours, panels, saving."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

from ..files import write_atomically  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ('#3b7dd8', '#e0802f', '#3f9b57', '#b5518f', '#8a6fd1', '#c9a227', '#4fa3a5', '#d05a4e')


def panels(
    rows: int, columns: int, width: float = 2.6, height: float = 2.9, **options: Any
) -> 'tuple[Figure, np.ndarray]':
    """A figure and its grid of axes, (rows, columns)."""
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, height * rows),
        layout='constrained',
        squeeze=False,
        **options,
    )
    return figure, axes


def show_image(
    axes: 'Axes', image: np.ndarray, title: str, extent: Sequence[int] | None = None, **options: Any
) -> Any:
    """An image without ticks, in pixels of ``extent`` (height, width) if it is given."""
    if extent is not None:
        options['extent'] = (0, extent[1], extent[0], 0)
    drawn = axes.imshow(image, interpolation='nearest', **options)
    axes.set_title(title, fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    return drawn


def label_row(axes: 'Axes', text: str) -> None:
    """Text beside the first panel of a row."""
    axes.set_ylabel(text, fontsize=9)


def save(figure: 'Figure', path: str | Path, dpi: int = 110) -> None:
    """Write a PNG, whole or not at all."""
    try:
        with write_atomically(path) as draft:
            # As large as what was drawn: titles and labels may be longer than the panels are wide.
            figure.savefig(draft, dpi=dpi, format='png', bbox_inches='tight')
    finally:
        plt.close(figure)
