"""Colours of classes can be told apart."""

import cv2
import numpy as np
import pytest

from mmhybrid.data.palette import palette


@pytest.mark.parametrize(('count', 'least'), [(2, 100), (12, 40), (30, 25), (80, 15)])
def test_any_two_differ(count, least):
    colours = np.array(palette(count), np.float32)  # (count, 3)
    assert colours.shape == (count, 3) and colours.min() >= 0 and colours.max() <= 255
    lab = cv2.cvtColor(colours[None] / 255, cv2.COLOR_RGB2Lab)[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert distances[~np.eye(count, dtype=bool)].min() > least  # 2.3 is a just noticeable one


def test_there_are_enough():
    assert len(palette(1203)) == 1203 and palette(12) == palette(30)[:12]
