"""The names of the configs: ``{head}_{backbone}_{size}[_{weights}][_{schedule}][_{data}].py``."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'

DETECTION = ('retinanet', 'maskrcnn', 'cascade', 'atss', 'gfl', 'dino')
SEGMENTATION = ('upernet', 'fpn', 'mask2former', 'mask2former_panoptic', 'mask2former_instance')
CLASSIFICATION = ('linear', 'imagenet', 'cifar10', 'cifar100')
HEADS = (*DETECTION, *SEGMENTATION, *CLASSIFICATION)

# Part of a name -> class of the backbone; those of the host libraries are for comparison.
OURS = {
    'cmt': 'CMT',
    'cvt': 'CvT',
    'spach': 'SPACH',
    'vit': 'ViT',
    'vitadapter': 'ViTAdapter',
    'vitc': 'ConvStemViT',
    'vitcomer': 'ViTCoMer',
    'vitp': 'ConvStemViT',
}
HOSTS = {'convnext': 'ConvNeXt', 'resnet': 'ResNet', 'resnetrs': 'TIMMBackbone'}
FAMILIES = OURS | HOSTS

NAME = re.compile(
    rf'(demo_)?(?P<head>{"|".join(HEADS)})_(?P<family>{"|".join(FAMILIES)})_(?P<size>[a-z0-9]+)'
    r'(?P<variant>(_[a-z0-9]+)*)\.py'
)


def config_names() -> list[str]:
    """The file names of all configs, sorted.

    Raises:
        ValueError: one does not follow the scheme.
    """
    names = sorted(path.name for path in CONFIGS.glob('*.py'))
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError(
                f'configs/{name}: expected {{head}}_{{backbone}}_{{size}}..., with a head of '
                f'{", ".join(HEADS)} and a backbone of {", ".join(FAMILIES)}; add new ones in '
                'tools/_zoo.py'
            )
    return names
