"""mmhybrid as a package: it installs alone and never touches the environment it lands in."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
REQUIREMENTS = ROOT / 'requirements'
EXTRAS = ('docs', 'export', 'tests')


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


def read_requirements(path: Path) -> list[str]:
    """The requirements in a file, without comments."""
    lines = path.read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith('#')]


def read_extras() -> dict[str, list[str]]:
    """The extras: each stack but its mmcv, and the other files of requirements."""
    # No extra names mmcv: pip would compile it in isolation, without torch, and so without ops.
    stacks = {path.parent.name: read_requirements(path) for path in REQUIREMENTS.glob('*/4-mm.txt')}
    others = {name: read_requirements(REQUIREMENTS / f'{name}.txt') for name in EXTRAS}
    return stacks | others


class BuildWithConfigs(build_py):
    """Puts configs, tools and the model index into the wheel, where MIM and MMEngine look."""

    def run(self) -> None:
        """Build the package, then copy."""
        super().run()
        if self.editable_mode:  # the checkout's own are used
            return
        target = Path(self.build_lib) / 'mmhybrid' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        # What sets up, demonstrates or describes a checkout stays there.
        left = shutil.ignore_patterns('__pycache__', 'install.py', 'demo.py', 'make_*.py')
        for folder in ('configs', 'tools'):
            shutil.copytree(ROOT / folder, target / folder, ignore=left)
        if (ROOT / 'model-index.yml').exists():
            shutil.copy(ROOT / 'model-index.yml', target)


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
    extras_require=read_extras(),
    cmdclass={'build_py': BuildWithConfigs},
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in (10, 11, 12, 13)),  # tried
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
)
