"""Names of classes in any letters are drawn, and never as question marks."""

import cv2
import numpy as np
import pytest

from mmhybrid.inspect.report import text as texts
from mmhybrid.inspect.report.draw import put_label


def drawn(name):
    canvas = np.zeros((60, 300, 3), np.uint8)
    bottom = put_label(canvas, name, (5, 40), (200, 200, 200))
    return canvas, bottom


@pytest.mark.parametrize('pair', [('кот', 'дом'), ('straße', 'strafe'), ('été', 'ete')])
def test_letters_that_matplotlib_has(pair):
    (first, bottom), (second, _) = map(drawn, pair)
    assert not np.array_equal(first, second) and first.any()
    assert 20 < bottom < 60
    questions, _ = drawn('???')
    assert not np.array_equal(first, questions)
    # Dark ink on the light box, inside of it.
    box = (first == 200).all(axis=2)
    ink = (first.max(axis=2) < 100) & (np.cumsum(box, axis=1) > 0) & (
        np.cumsum(box[:, ::-1], axis=1)[:, ::-1] > 0)  # fmt: skip
    assert ink.sum() > 20


def test_ascii_is_drawn_as_before():
    canvas, _ = drawn('cat 0.99')
    expected = np.zeros_like(canvas)
    (width, height), _ = cv2.getTextSize('cat 0.99', cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    y = 40 - height - 6
    cv2.rectangle(expected, (5, y), (5 + width + 6, y + height + 6), (200, 200, 200), cv2.FILLED)
    cv2.putText(expected, 'cat 0.99', (8, y + height + 3), cv2.FONT_HERSHEY_SIMPLEX, 0.45,
                (0, 0, 0), 1, cv2.LINE_AA)  # fmt: skip
    assert np.array_equal(canvas, expected)


def test_letters_that_no_font_has(monkeypatch, capsys):
    own = texts.font_files()[:1]
    monkeypatch.setattr(texts, 'font_files', lambda: own)
    for cached in (texts.font_of, texts.drawable, texts._say):
        cached.cache_clear()
    canvas, _ = drawn('猫 0.9')
    assert np.array_equal(canvas, drawn('\\u732b 0.9')[0])
    assert 'no font here has 猫: drawn as \\u732b' in capsys.readouterr().out
    drawn('猫 0.8')
    assert capsys.readouterr().out == ''  # once
    for cached in (texts.font_of, texts.drawable, texts._say):
        cached.cache_clear()
