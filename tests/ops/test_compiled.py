"""The operators return what compiled mmcv returns, forward and backward."""

import numpy as np
import pytest

from .cases import RECORD, SEED, results
from .conftest import use


def test_results_are_those_that_were_recorded():
    with np.load(RECORD) as record:
        compare(results(SEED), dict(record))


@pytest.mark.parametrize('seed', [11, 12])
def test_results_are_those_of_the_compiled_mmcv_here(seed, compiled, monkeypatch):
    found = results(seed)
    use(compiled, monkeypatch)
    compare(found, results(seed))


def compare(found, expected):
    assert set(found) == set(expected) and len(found) > 150
    for name, want in expected.items():
        assert found[name].dtype == want.dtype, name
        scale = max(np.abs(want).max(), 1) if want.size else 1
        np.testing.assert_allclose(found[name], want, rtol=0, atol=1e-5 * scale, err_msg=name)
