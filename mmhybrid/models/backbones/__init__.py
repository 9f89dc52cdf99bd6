"""The backbones, one family a file; ``base`` holds what all of them promise."""

from fnmatch import fnmatch
from typing import Any

# `X as X` exports a name, for type checkers too.
from .adapter import Adapter as Adapter
from .base import Backbone as Backbone
from .cmt import CMT as CMT
from .conv_stem_vit import ConvStemViT as ConvStemViT
from .cvt import CvT as CvT
from .spach import SPACH as SPACH
from .sta import STA as STA
from .vit import ViT as ViT
from .vit_adapter import ViTAdapter as ViTAdapter
from .vit_comer import ViTCoMer as ViTCoMer

# All that are imported above but the bases, which have no architectures.
BACKBONES = tuple(
    cls
    for cls in vars().values()
    if isinstance(cls, type) and issubclass(cls, Backbone) and hasattr(cls, 'arch_settings')
)


def _names() -> dict[str, tuple[type[Backbone], str]]:
    return {
        f'{backbone.family}_{arch}': (backbone, arch)
        for backbone in BACKBONES
        for arch in backbone.arch_settings
    }


def list_backbones(pattern: str = '*') -> list[str]:
    """See :func:`mmhybrid.list_backbones`."""
    return sorted(name for name in _names() if fnmatch(name, pattern))


def build_backbone(name: str, **overrides: Any) -> Backbone:
    """See :func:`mmhybrid.build_backbone`."""
    names = _names()
    if name not in names:
        raise ValueError(f'no backbone {name!r:.99}; there are {", ".join(sorted(names))}')
    backbone, arch = names[name]
    model = backbone(**{'arch': arch, **overrides})
    model.init_weights()
    return model
