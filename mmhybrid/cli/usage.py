"""The end of every command: a user's mistake is a message; files are written whole or not."""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# What Python raises where a value is of another kind, or an argument or name unknown.
CONFIG_ERRORS = (TypeError, ValueError, LookupError, AttributeError, AssertionError)


class UsageError(ValueError):
    """Something the user gave; the message says what, what was expected and what to do."""


def run(main: Callable) -> None:
    """Run a command: a user's mistake is one message and exit code 1, without a traceback.

    A number that ``main`` returns is of failures: the exit code is 1 if there are any. Any other
    result, empty or not, is a success.
    """
    from ..doctor import explain_import_error

    try:
        from ..checkpoints import CheckpointError
        from ..data.coco import DataError
        from ..deploy.errors import ExportError
        from ..engine import TrainingError

        result = main()
        sys.exit(min(result, 1) if isinstance(result, int) else 0)
    except ImportError as error:
        sys.exit(f'error: {explain_import_error(error)}')
    except (UsageError, DataError, CheckpointError, ExportError, TrainingError) as error:
        sys.exit(f'error: {error}')
    except BrokenPipeError:  # of `| head`, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # a full disk, a file in the place of a folder, no permission
        if not error.filename or not error.strerror:
            sys.exit(f'error: {error}')
        is_file = isinstance(error, FileExistsError)
        reason = 'it is a file; expected a folder, or a new place' if is_file else error.strerror
        sys.exit(f'error: {error.filename}: {reason}')
    except CONFIG_ERRORS as error:
        if not _came_from_registry(error):
            raise
        from .keys import suggest

        sys.exit(
            f'error: what the config asks for cannot be built: {explain(error)}{suggest(error)}'
        )
    except KeyboardInterrupt:
        print('\ninterrupted', file=sys.stderr)
        sys.exit(130)


def _came_from_registry(error):
    """Return True if mmengine's building of an object from its config raised the error."""
    place = ('mmengine', 'registry', 'build_functions.py')
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).parts[-3:] == place for frame in frames)


def explain(error: BaseException) -> str:
    """An error of Python in words: what, and where, which no traceback tells."""
    message = str(error.args[0] if error.args else '')
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = 'mmengine' in Path(last.filename).parts  # which says enough in its messages
    where = '' if own else f' ({last.filename}, line {last.lineno})'
    return f'{type(error).__name__}: {message}{where}'


def single_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics that are one number; others are of each class, or a matrix."""
    import numpy as np

    # A tensor may lie on a device.
    arrays = {k: np.asarray(v.cpu() if hasattr(v, 'cpu') else v) for k, v in metrics.items()}
    return {
        name: float(array.item())
        for name, array in arrays.items()
        if array.size == 1 and array.dtype.kind in 'iufb'
    }


def from_here(place: Any) -> Any:
    """Return a path below the current directory as it is called from there, all else as it is."""
    here = Path.cwd()
    inside = isinstance(place, Path) and place.is_relative_to(here)
    return place.relative_to(here) if inside else place


def print_results(places: Mapping) -> None:
    """Print where the results of a run are: a line each, without those that are None."""
    from mmengine.dist import is_main_process

    there = {name: from_here(place) for name, place in places.items() if place is not None}
    if not there or not is_main_process():
        return
    width = max(map(len, there))
    print('\nresults')
    for name, place in there.items():
        print(f'  {name:{width}}  {place}')


@contextlib.contextmanager
def reading(what: Any) -> Iterator[None]:
    """Turn errors within into a UsageError: a mistake in ``what``, a config or its options."""
    from ..checkpoints import CheckpointError
    from ..data.coco import DataError

    try:
        yield
    except (UsageError, DataError, CheckpointError):
        raise
    except CONFIG_ERRORS as error:
        raise UsageError(f'{what}: {explain(error)}') from error
