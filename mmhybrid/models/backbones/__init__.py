"""The backbones, one family a file; ``base`` holds what all of them promise."""

from fnmatch import fnmatch

from .adapter import Adapter
from .base import Backbone
from .cmt import CMT
from .conv_stem_vit import ConvStemViT
from .cvt import CvT
from .spach import SPACH
from .vit import ViT
from .vit_adapter import ViTAdapter
from .vit_comer import ViTCoMer

__all__ = [
    'CMT',
    'Adapter',
    'Backbone',
    'ConvStemViT',
    'CvT',
    'SPACH',
    'ViT',
    'ViTAdapter',
    'ViTCoMer',
    'build_backbone',
    'list_backbones',
]

BACKBONES = (CMT, ConvStemViT, CvT, SPACH, ViT, ViTAdapter, ViTCoMer)


def _names() -> dict[str, tuple[type[Backbone], str]]:
    return {
        f'{backbone.family}_{arch}': (backbone, arch)
        for backbone in BACKBONES
        for arch in backbone.arch_settings
    }


def list_backbones(pattern: str = '*') -> list[str]:
    """See :func:`mmhybrid.list_backbones`."""
    return sorted(name for name in _names() if fnmatch(name, pattern))


def build_backbone(name: str, **overrides) -> Backbone:
    """See :func:`mmhybrid.build_backbone`."""
    names = _names()
    if name not in names:
        raise ValueError(f'no backbone {name!r}; there are {", ".join(sorted(names))}')
    backbone, arch = names[name]
    model = backbone(arch, **overrides)
    model.init_weights()
    return model
