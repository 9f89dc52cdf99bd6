import importlib
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def tool(monkeypatch):
    """Import a file of tools/ by name, with its folder on the path as Python has it."""
    monkeypatch.syspath_prepend(str(TOOLS))
    yield importlib.import_module
    for name, module in list(sys.modules.items()):
        if str(getattr(module, '__file__', '')).startswith(str(TOOLS)):
            del sys.modules[name]
