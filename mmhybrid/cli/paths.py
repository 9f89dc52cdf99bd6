"""Files that a user names.

A config, a checkpoint, and the relative paths inside a config are looked up in the current
directory first, then in the checkout, or beside the configs of an installed package.
"""

import difflib
from pathlib import Path
from typing import Any

from ..config_files import FOLDERS, SCOPE, config_path, list_configs
from .usage import UsageError

IN_WHEEL, IN_CHECKOUT = (folder.parent for folder in FOLDERS)
CHECKOUT = IN_CHECKOUT if (IN_CHECKOUT / 'configs').is_dir() else None
ROOT = CHECKOUT or IN_WHEEL


def find(path: str | Path, what: str) -> Path:
    """A path given by the user: in the current directory, else in the checkout."""
    for candidate in (Path(path), ROOT / path):
        if candidate.exists():
            return candidate
    raise UsageError(_not_found(path, what) + _hint(_near(path)))


def find_config(name: str | Path, what: str = 'config', folders: bool = False) -> Path:
    """A config given by the user: by its path, or by the name of one that comes with mmhybrid.

    Args:
        folders: a folder is as welcome.
    """
    for candidate in (Path(name), ROOT / name):
        if candidate.is_file() or (folders and candidate.is_dir()):
            return candidate
    try:
        return Path(config_path(str(name)))
    except FileNotFoundError as error:
        folder = Path(name).parent.resolve()
        own = folder.is_dir() and (ROOT / 'configs').resolve() not in (folder, *folder.parents)
        hint = _hint(_near(name)) if own else ''
        raise UsageError(_not_found(name, what) + (hint or f'; {error}')) from None


def is_config(name: str) -> bool:
    """Return True if a name is that of a config, not of a backbone."""
    return name.endswith('.py') or name.startswith(SCOPE) or name in list_configs()


def _not_found(path, what):
    if Path(path).is_absolute():
        return f'{what} not found: {path}'
    places = ' and '.join(dict.fromkeys([str(Path.cwd()), str(ROOT)]))
    return f'{what} not found: {path} (looked in {places})'


def _near(path):
    """Names of files like the one that is not there, in its folder."""
    folder = Path(path).parent if Path(path).parent.is_dir() else ROOT / Path(path).parent
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    return difflib.get_close_matches(Path(path).name, names, n=3)


def _hint(near):
    return f'; did you mean {" or ".join(near)}?' if near else ''


def find_checkpoint(path: str | Path, what: str = 'checkpoint', best: bool = True) -> Path:
    """A checkpoint given by the user; of a work dir the best one (if asked), else the newest."""
    from ..engine import latest_checkpoint

    path = find(path, what)
    if not path.is_dir():
        return path
    folders = [path]
    if (note := path / 'last_checkpoint').is_file():  # mmengine's, also where they are elsewhere
        folders.append(Path(note.read_text().strip()).parent)
    found = None
    for folder in folders:
        found = found or (best_checkpoint(folder) if best else None) or latest_checkpoint(folder)
    if found is None:
        raise UsageError(f'{path} holds no checkpoint: has its training come to the first one?')
    print(f'checkpoint: {found}')
    return found


def best_checkpoint(work_dir: Path) -> Path | None:
    """The newest of the best checkpoints in a work dir, or None."""
    files = sorted(work_dir.glob('best_*.pth'), key=lambda file: file.stat().st_mtime_ns)
    return files[-1] if files else None


def is_folder(given: Any) -> bool:
    """Return True for the path of a folder."""
    return isinstance(given, (str, Path)) and Path(given).is_dir()


def find_trained(config: Any, checkpoint: Any = None) -> tuple[Any, Any]:
    """A config and its checkpoint; both are found in a work dir that is given for the config.

    Raises:
        UsageError: there is no such work dir, it holds no config, or a checkpoint is missing.
    """
    from .config import name_of

    if is_folder(config):
        return trained_config(Path(config)), checkpoint or config
    if checkpoint is None:
        if isinstance(config, (str, Path)) and Path(config).parent.name:
            if not Path(config).exists():
                raise UsageError(f'work dir not found: {config}')
        raise UsageError(
            f'{name_of(config)} needs a checkpoint beside it; only a work dir holds its own'
        )
    return config, checkpoint


def trained_config(work_dir: Path) -> Path:
    """The config that a training left in its work dir."""
    configs = sorted(work_dir.glob('*.py')) if work_dir.is_dir() else []
    if len(configs) != 1:
        held = ', '.join(path.name for path in configs) or 'none'
        raise UsageError(
            f'{work_dir} should hold the one config of a training; it holds {held}'
            + ('. Move all others away than that of its checkpoints' if configs else '')
        )
    return configs[0]
