"""Checks against the original implementations, for the tests and ``tools/parity.py``."""

from .golden import Comparison, Golden
from .originals import build_original

__all__ = ['Comparison', 'Golden', 'build_original']
