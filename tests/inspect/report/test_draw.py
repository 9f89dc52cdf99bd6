"""What is drawn on pictures."""

import numpy as np
import pytest

from mmhybrid.inspect.report.draw import enlarged, put_list

COLORS = [[200, 0, 0], [0, 200, 0], [0, 0, 200], [200, 200, 0]]


def shown(canvas):
    """Whether each colour is on the picture, and how high its box is."""
    return [int((canvas == color).all(-1).any(1).sum()) for color in COLORS]


def test_no_label_of_a_list_covers_another():
    canvas = np.zeros((120, 200, 3), np.uint8)
    put_list(canvas, [(f'class {i}', color) for i, color in enumerate(COLORS)])
    heights = shown(canvas)
    assert min(heights) == max(heights) > 10


def test_a_list_ends_where_a_small_picture_does():
    canvas = np.zeros((45, 200, 3), np.uint8)
    put_list(canvas, [(f'class {i}', color) for i, color in enumerate(COLORS)])
    heights = shown(canvas)
    assert heights[0] == heights[1] > 10 and heights[2:] == [0, 0]


@pytest.mark.parametrize(
    ('shape', 'factor'), [((64, 96), 8), ((3, 3000), 1), ((20, 900), 4), ((1, 9000), 1)]
)
def test_small_images_are_enlarged_but_not_lines(shape, factor):
    canvas, used = enlarged(np.zeros((*shape, 3), np.uint8))
    assert used == factor and canvas.shape == (factor * shape[0], factor * shape[1], 3)
