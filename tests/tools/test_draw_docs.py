"""The pictures in docs/ are there, small, and stand alone; they are drawn again by hand."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.inspect.report.test_page import check

DOCS = Path(__file__).parents[2] / 'docs'


def test_pictures_of_the_docs_are_there_and_small(tool):
    most = tool('draw_docs').MOST
    page = (DOCS / 'looking.md').read_text()
    shown = re.findall(r'!\[[^\]]+\]\(([^)]+)\)', page)
    assert len(shown) >= 7 and 'demo_report.html' in page
    for name in shown:
        assert (DOCS / name).stat().st_size <= most
        with Image.open(DOCS / name) as image:
            image.verify()
    assert {DOCS / name for name in shown} == set((DOCS / 'images/looking').iterdir())


def test_the_report_in_the_docs_stands_alone():
    page = check((DOCS / 'demo_report.html').read_text(encoding='utf-8'))
    for text in ('Training loss', 'Masks: average precision', 'Worst images', 'Configuration'):
        assert text in page
    assert not re.search(r'[\'"(= ]/(root|home|tmp|Users)/', page)


def test_pictures_that_are_too_large(tool, tmp_path):
    module = tool('draw_docs')
    out = tmp_path / 'out'
    Image.new('RGB', (40, 30), 'red').save(tmp_path / 'red.png')
    with Image.open(module.shrink(tmp_path / 'red.png', out / 'a.png')) as image:
        assert image.size == (40, 30)
    noise = np.random.default_rng(0).integers(256, size=(700, 700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / 'noise.png')
    with pytest.raises(ValueError, match='b.png would have .* bytes, expected at most'):
        module.shrink(tmp_path / 'noise.png', out / 'b.png')
    assert [path.name for path in out.iterdir()] == ['a.png']
    with pytest.raises(ValueError, match='there is no such program'):
        module.main(['--browser', 'no-such-browser'])
