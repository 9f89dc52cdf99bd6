"""Files and folders that are there whole or not at all."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = '.part'  # ends the name of a draft


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Give the place of a draft, a file or a folder, that becomes ``path`` when the block ends.

    The folder of ``path`` is made. A draft of a block that raises is removed; one whose process was
    killed keeps its name, which ends with ``.part``. Several threads and processes, on several
    machines too, may write the same path. A folder takes the place of an empty one, or of none.

    Raises:
        OSError: it cannot be written; the error names ``path``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Numbers of processes may be equal on two machines that write into one folder.
    draft = path.absolute().with_name(f'{path.absolute().name}.{uuid.uuid4().hex}{PART}')
    try:
        yield draft
        os.replace(draft, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(draft)):
            raise  # of something else in the block
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        _remove(draft)


def _remove(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft)
    else:
        draft.unlink(missing_ok=True)


def write_file(path: str | Path, content: str | bytes) -> None:
    """Write text or bytes by :func:`write_atomically`."""
    with write_atomically(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
