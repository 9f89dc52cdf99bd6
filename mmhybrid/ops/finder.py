"""Answer ``import mmcv._ext`` with :mod:`mmhybrid.ops.ext` where mmcv brings no compiled one.

The whole text of this file also stands in ``mmhybrid.pth``, which Python runs at every start in an
environment that has mmhybrid: hence the standard library alone, and no error without mmhybrid.
"""

import sys


class OperatorFinder:
    """A finder for ``mmcv._ext``, asked after all others: a compiled module is found before it."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """Return the spec of ``mmcv._ext``; None for other names, and where mmhybrid is gone."""
        if name != 'mmcv._ext':
            return None
        from importlib.machinery import ModuleSpec
        from importlib.util import find_spec

        try:
            found = find_spec('mmhybrid.ops.ext')
        except ImportError:
            found = None
        # A class of static methods serves as the loader; the standard library asks for an object.
        return found and ModuleSpec(name, OperatorFinder, origin=found.origin)  # type: ignore[arg-type]

    @staticmethod
    def create_module(spec):
        """Leave the module to Python."""

    @staticmethod
    def exec_module(module):
        """Put :mod:`mmhybrid.ops.ext` itself in the module's place."""
        from importlib import import_module

        sys.modules['mmcv._ext'] = import_module('mmhybrid.ops.ext')


if not any(getattr(it, '__name__', '') == 'OperatorFinder' for it in sys.meta_path):
    sys.meta_path.append(OperatorFinder)
