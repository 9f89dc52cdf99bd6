"""Reading the checkpoints of a training whole, without running code from them."""

import codecs
import contextlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer


@contextlib.contextmanager
def safe_loading() -> Iterator[None]:
    """Let a bare ``torch.load`` within read what mmengine's runner saves, and refuse the rest.

    To resume, mmengine calls ``torch.load`` with a path alone. Since torch 2.6 that refuses the
    runner's bookkeeping: mmengine 0.10.7 stops there, onedl-mmengine reads the file again in the
    way that runs whatever it names.
    """
    with torch.serialization.safe_globals(SAFE):
        yield


def _statistic(owner: object, name: str) -> Callable:
    """Replace ``getattr``: a HistoryBuffer is saved with its statistics, methods by name."""
    if owner is HistoryBuffer and not name.startswith('_') and callable(vars(owner).get(name)):
        return vars(owner)[name]
    raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r}) is not what a runner saves')


def _named(function: Callable, module: str, name: str) -> Callable:
    """Give a function the name by which a pickle calls it."""

    def call(*args):
        return function(*args)

    call.__module__, call.__qualname__ = module, name
    return call


_ARRAY: Any
_SCALAR: Any
_ARRAY, _SCALAR = (value.__reduce__()[0] for value in (np.zeros(1), np.float64(0)))
_KINDS = {type(np.dtype(code)) for code in np.typecodes['All'] if code not in 'OV'}

SAFE = [
    HistoryBuffer,
    ConfigDict,
    np.ndarray,
    np.dtype,
    *_KINDS,
    codecs.encode,  # how old pickles hold bytes
    _named(_statistic, 'builtins', 'getattr'),
    # NumPy 2 renamed the module, and a file may come from either side.
    *(_named(_ARRAY, f'numpy.{core}.multiarray', '_reconstruct') for core in ('core', '_core')),
    *(_named(_SCALAR, f'numpy.{core}.multiarray', 'scalar') for core in ('core', '_core')),
]
"""All that a checkpoint of mmengine's runner names beside tensors and plain data."""
