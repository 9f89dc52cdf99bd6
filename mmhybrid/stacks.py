"""The two stacks of MM libraries: their names, what is installed of them, and the pins.

Only the standard library is imported here: the set-up and the doctor work without the rest.
"""

import importlib.metadata
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / 'requirements'
DEFAULT_STACK = 'onedl'
STACK_TITLES = {'onedl': 'OneDL forks', 'openmmlab': 'OpenMMLab'}

# Import name -> distribution name. The stacks share import names: where both are installed, files
# of one overwrite those of the other.
STACKS = {
    'onedl': {
        'mmengine': 'onedl-mmengine',
        'mmcv': 'onedl-mmcv',
        'mmdet': 'onedl-mmdetection',
        'mmseg': 'onedl-mmsegmentation',
        'mmpretrain': 'onedl-mmpretrain',
    },
    'openmmlab': {
        'mmengine': 'mmengine',
        'mmcv': 'mmcv-lite',
        'mmdet': 'mmdet',
        'mmseg': 'mmsegmentation',
        'mmpretrain': 'mmpretrain',
    },
}
# Other distributions of the OpenMMLab stack, with the import name; the first two are compiled.
VARIANTS = {'mmcv': 'mmcv', 'mmcv-full': 'mmcv', 'mmengine-lite': 'mmengine'}


def installed_distributions(path: Sequence[str] | None = None) -> dict[str, str]:
    """Names, normalised as pip does, and versions of what is installed here or along `path`."""
    found: dict[str, str] = {}
    folders = list(sys.path if path is None else path)
    for distribution in importlib.metadata.distributions(path=folders):
        name = distribution.metadata['Name']
        if name:  # what an interrupted installation left behind has no name
            found.setdefault(re.sub(r'[-_.]+', '-', name).lower(), distribution.version)
    return found


def installed_stacks(distributions: dict[str, str]) -> dict[str, list[str]]:
    """The distributions of each stack that has any among `distributions`."""
    members = {stack: list(names.values()) for stack, names in STACKS.items()}
    members['openmmlab'] += VARIANTS
    found = {
        stack: [name for name in names if name in distributions] for stack, names in members.items()
    }
    return {stack: names for stack, names in found.items() if names}


def requirements(path: Path) -> list[str]:
    """The requirements in a file, without its comments."""
    lines = (line.partition('#')[0].strip() for line in path.read_text('utf-8').splitlines())
    return [line for line in lines if line]


def pins(stack: str) -> dict[str, str]:
    """Distribution name -> requirement, as the checkout pins them; empty outside a checkout."""
    return {
        re.split(r'[<>=!~ ]', line)[0]: line
        for path in (REQUIREMENTS / f'{stack}.txt', REQUIREMENTS / f'tests-{stack}.txt')
        if path.exists()
        for line in requirements(path)
    }
