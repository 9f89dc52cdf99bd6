"""The names of the configs: ``{head}_{backbone}_{size}[_{weights}][_{schedule}][_{data}].py``."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a clone works without being installed
    sys.path.insert(0, str(ROOT))

from mmhybrid.models.backbones import BACKBONES  # noqa: E402

CONFIGS = ROOT / 'configs'

DETECTION = ('retinanet', 'maskrcnn', 'cascade', 'atss', 'gfl', 'dino')
SEGMENTATION = (
    *('upernet', 'fpn', 'linearseg', 'mask2former', 'mask2former_panoptic'),
    'mask2former_instance',
)
CLASSIFICATION = ('linear', 'imagenet', 'cifar10', 'cifar100')
HEADS = (*DETECTION, *SEGMENTATION, *CLASSIFICATION)

# Part of a name -> class of the backbone; those of the host libraries are for comparison.
OURS = {cls.__name__.lower(): cls.__name__ for cls in BACKBONES}
OURS |= {'vitc': 'ConvStemViT', 'vitp': 'ConvStemViT'}
HOSTS = {'convnext': 'ConvNeXt', 'resnet': 'ResNet', 'resnetrs': 'TIMMBackbone'}
FAMILIES = OURS | HOSTS

NAME = re.compile(
    rf'(demo_)?(?P<head>{"|".join(HEADS)})_(?P<family>{"|".join(FAMILIES)})_(?P<size>[a-z0-9]+)'
    r'(?P<variant>(_[a-z0-9]+)*)\.py'
)


def config_names() -> list[str]:
    """The file names of all configs, sorted.

    Raises:
        ValueError: one does not follow the scheme, or stands in two folders.
    """
    paths = [path for path in CONFIGS.rglob('*.py') if CONFIGS / '_base_' not in path.parents]
    names = sorted(path.name for path in paths)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f'{", ".join(twice)}: in several folders of configs; rename all but one')
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(
                f'{name}: expected {{head}}_{{backbone}}_{{size}}..., with a head of '
                f'{", ".join(HEADS)} and a backbone of {", ".join(FAMILIES)}; add new heads in '
                'tools/_zoo.py, new backbones in mmhybrid/models/backbones/__init__.py'
            )
    return names
