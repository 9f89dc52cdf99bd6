"""mmhybrid as a package: it installs alone and never touches the environment it lands in."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
REQUIREMENTS = ROOT / 'requirements'
STACKS = ('onedl', 'openmmlab')
EXTRAS = (*STACKS, 'docs', 'export', 'tests')


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
    """The extras: each stack, and the other files of requirements."""
    return {name: read_requirements(REQUIREMENTS / f'{name}.txt') for name in EXTRAS}


def write_finder(folder: Path) -> None:
    """Write the line that every start of Python runs in an environment with mmhybrid.

    It holds the finder itself, so that a checkout that has moved away causes no error there.
    """
    source = (ROOT / 'mmhybrid' / 'ops' / 'finder.py').read_text(encoding='utf-8')
    line = f"import sys; exec({source!r}, {{'__name__': 'mmhybrid.ops.finder'}})\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'mmhybrid.pth').write_text(line, encoding='utf-8')


class BuildWithConfigs(build_py):
    """Puts configs, tools and the model index into the wheel, where MIM and MMEngine look.

    Beside the package goes the line that finds the operators.
    """

    def run(self) -> None:
        """Build the package, then copy."""
        super().run()
        if self.editable_mode:  # the checkout's own are used; setuptools collects the wheel there
            write_finder(Path(self.get_finalized_command('install').install_lib))
            return
        write_finder(Path(self.build_lib))
        target = Path(self.build_lib) / 'mmhybrid' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        # What sets up, demonstrates or describes a checkout stays there.
        left = shutil.ignore_patterns(
            '__pycache__', 'install.py', 'draw_*.py', 'make_*.py', '_zoo.py'
        )
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
    # Nothing is required on purpose. torch comes in builds that pip cannot tell apart, and the MM
    # libraries under two sets of names: naming one would replace what a working environment has.
    # The extras name a whole stack. `python -m mmhybrid.doctor` says what is missing.
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
