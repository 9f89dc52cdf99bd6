"""mmhybrid as a package: it installs alone and never touches the environment it lands in."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def read_version() -> str:
    """The version in `mmhybrid/__init__.py`, read without importing it."""
    source = (ROOT / 'mmhybrid' / '__init__.py').read_text(encoding='utf-8')
    match = re.search(r"^__version__ = '(.+)'$", source, re.MULTILINE)
    if match is None:
        raise RuntimeError("mmhybrid/__init__.py has no line __version__ = '...'")
    return match.group(1)


def read_long_description() -> str:
    """The README, or nothing where it is not part of the source."""
    readme = ROOT / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.exists() else ''


def read_requirements(name: str) -> list[str]:
    """The requirements in `requirements/<name>`, without comments."""
    lines = (ROOT / 'requirements' / name).read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


setup(
    name='mmhybrid',
    version=read_version(),
    description=(
        'Hybrid CNN + Transformer backbones for dense prediction '
        'in MMDetection, MMSegmentation and MMPretrain'
    ),
    long_description=read_long_description(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='computer vision, object detection, segmentation, backbone, vision transformer',
    packages=find_packages(include=['mmhybrid', 'mmhybrid.*']),
    python_requires='>=3.10',
    # Nothing is required on purpose. torch and mmcv come in builds that pip cannot tell apart, and
    # the MM libraries under two sets of names: naming one would replace what a working environment
    # has. `python -m mmhybrid.doctor` says what is missing.
    install_requires=[],
    # No extra names mmcv: pip would compile it in isolation, without torch, and so without ops.
    extras_require={
        'onedl': read_requirements('onedl/4-mm.txt'),
        'tests': read_requirements('tests.txt'),
    },
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
)
