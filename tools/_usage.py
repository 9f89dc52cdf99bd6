"""The end of every tool: a mistake of the user is a message, and files are written whole or not."""

import argparse
import contextlib
import re
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a clone works without being installed
    sys.path.insert(0, str(ROOT))

# What Python raises where a value is of another kind, or an argument or name unknown.
CONFIG_ERRORS = (TypeError, ValueError, LookupError, AttributeError, AssertionError)


class UsageError(ValueError):
    """Something the user gave; the message says what, what was expected and what to do."""


def run(main):
    """Run a tool: a user's mistake is one message and exit code 1, without a traceback.

    A number that ``main`` returns is the exit code; any other result, empty or not, is a success.
    """
    from mmhybrid.doctor import explain_import_error

    try:
        from mmhybrid.checkpoints import CheckpointError
        from mmhybrid.data.coco import DataError
        from mmhybrid.deploy.errors import ExportError
        from mmhybrid.engine import TrainingError

        result = main()
        sys.exit(result if isinstance(result, int) else 0)
    except ImportError as error:
        sys.exit(f'error: {explain_import_error(error)}')
    except (UsageError, DataError, CheckpointError, ExportError, TrainingError) as error:
        sys.exit(f'error: {error}')
    except OSError as error:  # a full disk, a file in the place of a folder, no permission
        if not error.filename or not error.strerror:
            sys.exit(f'error: {error}')
        is_file = isinstance(error, FileExistsError)
        reason = 'it is a file; expected a folder, or a new place' if is_file else error.strerror
        sys.exit(f'error: {error.filename}: {reason}')
    except CONFIG_ERRORS as error:
        if not _came_from_registry(error):
            raise
        sys.exit(f'error: what the config asks for cannot be built: {explain(error)}')
    except KeyboardInterrupt:
        print('\ninterrupted', file=sys.stderr)
        sys.exit(130)


def _came_from_registry(error):
    """Return True if mmengine's building of an object from its config raised the error."""
    place = ('mmengine', 'registry', 'build_functions.py')
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).parts[-3:] == place for frame in frames)


def explain(error):
    """An error of Python in words: what, and where, which no traceback tells."""
    message = str(error.args[0] if error.args else '')
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = 'mmengine' in Path(last.filename).parts  # which says enough in its messages
    where = '' if own else f' ({last.filename}, line {last.lineno})'
    return f'{type(error).__name__}: {message}{where}'


@contextlib.contextmanager
def reading(what):
    """Turn errors within into a UsageError: a mistake in ``what``, a config or its options."""
    from mmhybrid.checkpoints import CheckpointError
    from mmhybrid.data.coco import DataError

    try:
        yield
    except (UsageError, DataError, CheckpointError):
        raise
    except CONFIG_ERRORS as error:
        raise UsageError(f'{what}: {explain(error)}') from error


class KeyValues(argparse.Action):
    """KEY=VALUE ... as mmengine's DictAction reads them, but with the spaces inside of texts."""

    def __call__(self, parser, namespace, values, option_string=None):
        options = dict(getattr(namespace, self.dest) or {})
        for text in values:
            key, equals, value = text.partition('=')
            if not equals or not key or key != key.strip():
                parser.error(f'{option_string}: expected KEY=VALUE without spaces, got {text!r}')
            try:
                options[key] = _value(value)
            except AssertionError as error:  # of mmengine, on brackets
                parser.error(f'{option_string} {text}: {error}')
        setattr(namespace, self.dest, options)


def _value(text):
    from mmengine.config import DictAction

    if ',' in text or text.startswith(('[', '(')):  # spaces beside separators mean nothing
        text = re.sub(r'\s*,\s*|(?<=[\[(])\s+|\s+(?=[\])])', lambda at: at[0].strip(), text)

    def restored(value):
        if isinstance(value, (list, tuple)):
            return type(value)(map(restored, value))
        return value.replace('\0', ' ') if isinstance(value, str) else value

    return restored(DictAction._parse_iterable(text.strip().replace(' ', '\0')))
