"""The configs that come with the package: in a checkout and in an installed wheel."""

from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
FOLDERS = (PACKAGE / '.mim' / 'configs', PACKAGE.parent / 'configs')  # of a wheel, of a checkout


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


def list_configs(pattern: str = '*') -> list[str]:
    """See :func:`mmhybrid.list_configs`."""
    names = sorted(path.stem for path in config_folder().glob('*.py'))
    return [name for name in names if fnmatch(name, pattern)]


def config_path(name: str) -> str:
    """See :func:`mmhybrid.config_path`."""
    folder = config_folder()
    path = folder / (name if name.endswith('.py') else f'{name}.py')
    if not path.is_file():
        near = get_close_matches(path.stem, list_configs(), n=3)
        hint = f'; did you mean {" or ".join(near)}?' if near else f'; {folder} holds all of them'
        raise FileNotFoundError(f'mmhybrid has no config {name!r}{hint}')
    return str(path)


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
        scope, _, name = cfg_path.partition('::')
        return (config_path(name), None) if scope == 'mmhybrid' else lookup(cfg_path, filename)

    get_cfg_path.knows_mmhybrid = True
    Config._get_cfg_path = staticmethod(get_cfg_path)
