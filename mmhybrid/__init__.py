"""Hybrid CNN + Transformer backbones for MMDetection, MMSegmentation and MMPretrain.

Importing this package is cheap: torch and mmengine are imported by the functions that need
them, so ``python -m mmhybrid.doctor`` can report on an installation where they are broken.
"""

from typing import TYPE_CHECKING, Any

from .api import Prediction, Training, evaluate, predict, train
from .ops import finder as _finder  # noqa: F401, from here on it answers `import mmcv._ext`

if TYPE_CHECKING:
    from .checkpoints import CheckpointError
    from .cli.usage import UsageError
    from .data.coco import DataError
    from .deploy.errors import ExportError
    from .engine import TrainingError
    from .models.backbones import Backbone

__version__ = '0.1.0'

__all__ = [
    'CheckpointError',
    'DataError',
    'ExportError',
    'Prediction',
    'Training',
    'TrainingError',
    'UsageError',
    '__version__',
    'build_backbone',
    'config_path',
    'evaluate',
    'list_backbones',
    'list_configs',
    'predict',
    'train',
]

# The errors of the calls above, by the modules that raise them, which need torch or mmengine.
_ERRORS = {
    'CheckpointError': 'checkpoints.errors',
    'DataError': 'data.coco',
    'ExportError': 'deploy.errors',
    'TrainingError': 'engine.health',
    'UsageError': 'cli.usage',
}


def __getattr__(name: str) -> Any:
    if name not in _ERRORS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module

    return getattr(import_module(f'{__name__}.{_ERRORS[name]}'), name)


def list_backbones(pattern: str = '*') -> list[str]:
    """Names that :func:`build_backbone` takes, sorted; ``pattern`` is a shell-style wildcard."""
    from .models.backbones import list_backbones

    return list_backbones(pattern)


def build_backbone(name: str, **overrides: Any) -> 'Backbone':
    """Build a backbone by name, as plain PyTorch.

    Args:
        name: one of :func:`list_backbones`, such as ``'vitcomer_s'``.
        overrides: constructor arguments of the backbone's class, such as ``drop_path_rate=0.2``;
            ``arch=dict(...)`` replaces the architecture of that name.

    Returns:
        A module: ``(N, C, H, W)`` image to a tuple of maps, ``(N, C_i, H / s_i, W / s_i)`` rounded
        up, with ``out_channels`` and ``out_strides``. With ``init_cfg`` among the overrides its
        weights are already loaded.

    Raises:
        ValueError: no backbone has this name.
        TypeError: the backbone has no such argument.
    """
    from .models.backbones import build_backbone

    return build_backbone(name, **overrides)


def config_path(name: str) -> str:
    """Path of a config that came with the package, such as ``'maskrcnn_vitcomer_b.py'``.

    Its name alone is enough, in whatever folder of a family it lies.

    In a config of your own, wherever mmhybrid is installed, for any host library's tools::

        _base_ = __import__('mmhybrid').config_path('maskrcnn_vitcomer_b.py')

    Raises:
        FileNotFoundError: there is no such config, or no longer in the folder that is given.
    """
    from .config_files import config_path

    return config_path(name)


def list_configs(pattern: str = '*') -> list[str]:
    """Names that :func:`config_path` takes, sorted; ``pattern`` is a shell-style wildcard."""
    from .config_files import list_configs

    return list_configs(pattern)
