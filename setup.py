"""The rest of pyproject.toml: configs and tools go into the wheel, and the finder beside it."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


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


setup(cmdclass={'build_py': BuildWithConfigs})
