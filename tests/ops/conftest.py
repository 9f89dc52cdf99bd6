"""mmcv's functions on mmhybrid's operators, whichever mmcv is installed."""

import sys
from importlib.util import find_spec

import pytest

from mmhybrid.ops import ext

pytest.importorskip('mmcv')
if find_spec('mmcv._ext') is None:
    sys.modules['mmcv._ext'] = ext

import mmcv.ops  # noqa: E402, F401


@pytest.fixture(autouse=True)
def ours(monkeypatch):
    """Every function of mmcv calls mmhybrid's operators."""
    use(ext, monkeypatch)


@pytest.fixture
def compiled():
    """mmcv's own module of operators; a test is skipped without one."""
    module = sys.modules['mmcv._ext']
    if module is ext:
        pytest.skip('mmcv is not compiled')
    return module


def use(operators, monkeypatch):
    modules = [m for name, m in sys.modules.items() if name.startswith('mmcv.ops.')]
    modules = [module for module in modules if hasattr(module, 'ext_module')]
    assert len(modules) > 20
    for module in modules:
        monkeypatch.setattr(module, 'ext_module', operators)
