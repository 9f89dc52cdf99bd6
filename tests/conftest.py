import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, settings
from yapf.yapflib import yapf_api

# The models of the tests are so small that a second thread would cost more than it brings.
torch.set_num_threads(1)


def once(function: Callable) -> Callable:
    """Return a function that keeps its results; the caller leaves them as they are."""
    results: dict = {}

    def call(*args, **kwargs):
        key = repr((args, kwargs))
        if key not in results:
            results[key] = function(*args, **kwargs)
        return results[key]

    return call


# A training has its config formatted five times, which takes longer than two small steps.
yapf_api.FormatCode = once(yapf_api.FormatCode)

# The same examples every time, and few; HYPOTHESIS_PROFILE=thorough draws new ones for an hour.
settings.register_profile(
    'default',
    max_examples=5,
    phases=[Phase.explicit, Phase.generate],
    deadline=None,
    derandomize=True,
    database=None,
)
settings.register_profile('thorough', max_examples=300, deadline=None, print_blob=True)
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'default'))


def pytest_configure(config):
    """A warning that a file of tools/ or docs/ causes is an error, as for mmhybrid."""
    root = Path(__file__).parents[1]
    for path in (*root.glob('tools/*.py'), *root.glob('docs/*.py')):
        config.addinivalue_line('filterwarnings', rf'error:::{path.stem}$')
    config.addinivalue_line('filterwarnings', 'error:::<run_path>$')  # what runpy calls them


# These fork, or look at the memory of their process: a file takes a fresh one if it comes first.
FIRST = ('test_resume.py', 'test_endurance.py')


def pytest_collection_modifyitems(items):
    """Put the files of ``FIRST`` in front; all others stay in order."""
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(FIRST)))


@pytest.fixture(scope='module', autouse=True)
def spare_what_is_imported():
    """Let the garbage collector, which the hosts' data sets call, pass over all that stays."""
    gc.collect()
    gc.freeze()
