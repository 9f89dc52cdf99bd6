"""Tiny models of all families, found in the contract tests: no other test has to list a family."""

import copy
import importlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from mmhybrid.models.backbones import BACKBONES, Backbone
from tests.models.backbones.contract import BackboneContract

FOLDER = Path(__file__).parent / 'backbones'


def contracts() -> dict[str, type[BackboneContract]]:
    """Import ``backbones/test_*.py``; return the first contract of each of ``BACKBONES``.

    Returns:
        Name of the class in lower case, such as ``'vitcomer'``, to its test class.

    Raises:
        LookupError: a backbone has no contract.
    """
    for path in sorted(FOLDER.glob('test_*.py')):
        importlib.import_module(f'tests.models.backbones.{path.stem}')
    found = {}
    for contract in subclasses(BackboneContract):
        found.setdefault(getattr(contract, 'backbone', None), contract)
    missing = [backbone.__name__ for backbone in BACKBONES if backbone not in found]
    if missing:
        raise LookupError(
            f'{", ".join(missing)}: no test class in {FOLDER}; expected a subclass of '
            'BackboneContract for each backbone, see docs/contribute/add.md'
        )
    return {backbone.__name__.lower(): found[backbone] for backbone in BACKBONES}


def subclasses(cls: type) -> Iterator[type]:
    """Yield all subclasses, each after the one that it derives from."""
    for one in cls.__subclasses__():
        yield one
        yield from subclasses(one)


def tiny_models() -> dict[str, Callable[[], Backbone]]:
    """Return a function for each family that builds the model of its contract, nothing drawn."""
    return {name: partial(build, contract) for name, contract in contracts().items()}


def build(contract: type[BackboneContract]) -> Backbone:
    return contract.backbone(**copy.deepcopy(contract.arguments))
