"""The configs that come with the package: in a checkout and in an installed wheel.

They lie in a folder a family, and each name is there once: the name alone finds its file.
"""

from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
FOLDERS = (PACKAGE / '.mim' / 'configs', PACKAGE.parent / 'configs')  # of a wheel, of a checkout
SCOPE = 'mmhybrid::'


def config_folder() -> Path:
    """The folder of all configs.

    Raises:
        FileNotFoundError: this installation has none.
    """
    for folder in FOLDERS:
        if (folder / '_base_').is_dir():
            return folder
    raise FileNotFoundError(
        f'this mmhybrid ({PACKAGE}) came without configs: neither {FOLDERS[0]} nor {FOLDERS[1]} '
        'is there; install a wheel of it, or work in a checkout'
    )


def config_files() -> dict[str, Path]:
    """Name -> file of every config, sorted by name, without the parts in ``_base_``."""
    folder = config_folder()
    files = (
        path for path in folder.rglob('*.py') if '_base_' not in path.relative_to(folder).parts
    )
    return {path.stem: path for path in sorted(files, key=lambda path: path.stem)}


def list_configs(pattern: str = '*') -> list[str]:
    """See :func:`mmhybrid.list_configs`."""
    return [name for name in config_files() if fnmatch(name, pattern)]


def config_path(name: str) -> str:
    """See :func:`mmhybrid.config_path`."""
    files, folder = config_files(), config_folder()
    given = Path(name.removeprefix(SCOPE))
    stem = given.name.removesuffix('.py')
    if given.parent == Path() and stem in files:
        return str(files[stem])
    for root in (folder, folder.parent):  # `cmt/NAME.py`, a part in `_base_`, `configs/cmt/NAME.py`
        path = root / given.parent / f'{stem}.py'
        if path.is_file() and path.is_relative_to(folder):
            return str(path)
    if given.parent.name == folder.name and stem in files:
        place = files[stem].relative_to(folder.parent)
        raise FileNotFoundError(f'{given} is now {place}; its name, {stem}, is enough to find it')
    near = get_close_matches(stem, files, n=3)
    hint = f'; did you mean {" or ".join(near)}?' if near else f'; {folder} holds all of them'
    raise FileNotFoundError(f'mmhybrid has no config {name!r}{hint}')


def enable_scope() -> None:
    """Let ``_base_ = 'mmhybrid::NAME.py'`` name a config of this package, in this process.

    mmengine's own lookup knows a fixed list of packages, wants a folder before the name, and builds
    what such a config names in its package's scope. Ours belong to the scope of their host library.
    """
    from mmengine.config import Config

    lookup = Config._get_cfg_path
    if getattr(lookup, 'knows_mmhybrid', False):
        return

    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        ours = cfg_path.startswith(SCOPE)
        return (config_path(cfg_path), None) if ours else lookup(cfg_path, filename)

    marked: Any = get_cfg_path
    marked.knows_mmhybrid = True
    Config._get_cfg_path = staticmethod(marked)
