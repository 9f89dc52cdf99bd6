"""Files that are there whole or not at all."""

import os
from pathlib import Path


def write_file(path: str | Path, content: str | bytes) -> None:
    """Write text or bytes, whole or not at all; the folder is made. Several processes may do so.

    Raises:
        OSError: it cannot be written; the error names the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{os.getpid()}.{path.name}.part')
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
    except OSError as error:  # one of writing has no name
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)
