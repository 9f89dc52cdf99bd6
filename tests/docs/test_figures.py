"""The diagrams are those that their script draws, and are put into a page."""

import importlib.util
import xml.etree.ElementTree as ET

import pytest

from tests.docs.pages import DOCS, pages

spec = importlib.util.spec_from_file_location('draw', DOCS / 'draw.py')
draw = importlib.util.module_from_spec(spec)
spec.loader.exec_module(draw)


@pytest.mark.parametrize('function', draw.DIAGRAMS, ids=lambda function: function.__name__)
def test_diagram(function):
    name = function.__name__
    text = (draw.FOLDER / f'{name}.svg').read_text()
    assert text == function().text(name), 'run python docs/draw.py'
    _, _, width, height = map(float, ET.fromstring(text).get('viewBox').split())
    for node in ET.fromstring(text).iter('{http://www.w3.org/2000/svg}rect'):
        x, y, w, h = (float(node.get(key)) for key in ('x', 'y', 'width', 'height'))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height


def test_every_diagram_is_shown():
    shown = [
        page for page in pages() for line in page.read_text().splitlines() if '{diagram}' in line
    ]
    assert len(shown) == len(draw.DIAGRAMS)
