"""The module that stands in the place of mmcv's compiled one."""

import re
import subprocess
import sys
from pathlib import Path

import mmcv
import pytest

from mmhybrid.ops import ext


def test_every_name_that_mmcv_asks_for_is_there():
    folder = Path(mmcv.__file__).parent / 'ops'
    texts = [path.read_text('utf-8') for path in folder.glob('*.py')]
    asked = {
        name
        for text in texts
        for names in text.split('load_ext(')[1:]
        for name in names.split(')')[0].split("'")[3::2]
    }
    assert len(asked) > 80 and set(ext.__all__) < asked
    assert all(callable(getattr(ext, name)) for name in asked)


def test_what_is_not_written_says_so_when_it_is_called():
    assert 'nms_rotated' not in ext.__all__
    with pytest.raises(NotImplementedError, match="'nms_rotated'.*make install OPS=compiled"):
        ext.nms_rotated(1, 2, iou_threshold=0.5)


def test_the_page_has_every_operator():
    page = (Path(__file__).parents[2] / 'docs/operators.md').read_text('utf-8')
    parts = r'_(forward|backward)(_\w+)?$'
    written = {re.sub(parts, '', name) for name in ext.__all__ if not name.startswith('get_')}
    named = {name for line in page.splitlines() for name in re.findall(r'`(\w+)`', column(line))}
    assert written == named


def column(line):
    """The first column of a table's row."""
    return line.split('|')[1] if line.startswith('| `') else ''


def test_other_names_are_not_invented():
    for name in ('__path__', '__wrapped__', '_private'):
        assert not hasattr(ext, name)


def test_the_import_needs_torch_and_torchvision_alone():
    code = (
        'import sys, mmhybrid.ops.ext\n'
        "found = {'mmcv', 'mmengine', 'mmdet', 'mmhybrid.models'} & set(sys.modules)\n"
        'assert not found, found'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
