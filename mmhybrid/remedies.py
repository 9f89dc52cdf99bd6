"""Causes of failed imports, and the commands that mend them.

Pure functions of what the doctor found (:class:`Facts`); nothing is run or imported here. Only
the standard library is used.
"""

import re
import shlex
import sys
from dataclasses import dataclass, field

from mmhybrid.stacks import (
    DEFAULT_STACK,
    ROOT,
    STACK_TITLES,
    STACKS,
    VARIANTS,
    installed_stacks,
    pins,
)

# Without these a Mask R-CNN with ViT-CoMer does not train.
MAIN_JOB = frozenset(
    'numpy torch cv2 mmengine mmcv mmcv._ext pycocotools mmdet mmhybrid'.split()
)  # fmt: skip
NEEDED_BY = {
    'torchvision': 'MMPretrain needs it; detection and segmentation do not.',
    'mmseg': 'Only segmentation needs it.',
    'mmpretrain': 'Only classification needs it.',
}
DISTRIBUTIONS = {
    'cv2': 'opencv-python',
    'PIL': 'pillow',
    'skimage': 'scikit-image',
    'yaml': 'pyyaml',
}
OPENCV_WITH_WINDOWS = ('opencv-python', 'opencv-contrib-python')
SETUPTOOLS = {'onedl': 'setuptools>=80,<82', 'openmmlab': 'setuptools<80'}
TRANSFORMERS = {'onedl': 'transformers<5', 'openmmlab': 'transformers<4.52'}  # mmpretrain's limit


@dataclass
class Facts:
    """The findings, before any judgement."""

    distributions: dict[str, str]  # name -> version
    probes: dict[str, dict] = field(default_factory=dict)  # import name -> version or error, ...
    compiler: str | None = None
    driver: bool = False  # an NVIDIA driver is there

    @property
    def stacks(self) -> dict[str, list[str]]:
        """Installed distributions of each stack that has any."""
        return installed_stacks(self.distributions)

    @property
    def stack(self) -> str:
        """The stack to mend with: the one there is most of, else the default."""
        return max(self.stacks, key=lambda stack: len(self.stacks[stack]), default=DEFAULT_STACK)

    @property
    def gpus(self) -> list[str]:
        """The GPUs that torch can use."""
        return self.probes.get('torch', {}).get('gpus', [])


@dataclass
class Problem:
    """Something broken: what it is, why, and the commands that mend it."""

    id: str
    title: str
    why: str
    commands: list[str]
    breaks: list[str] = field(default_factory=list)  # import names
    blocks: bool = False  # the main job cannot run


# ---------------------------------------------------------------------------- commands


def pip(*arguments: str) -> str:
    """A pip command for the Python that runs this."""
    return shlex.join([sys.executable, '-m', 'pip', *arguments])


def distribution_of(library: str, stack: str) -> str:
    """The distribution to install for an import name."""
    return STACKS[stack].get(library) or DISTRIBUTIONS.get(library, library)


def pinned(distribution: str, facts: Facts, stack: str | None = None) -> str:
    """The installed version, else the one that the checkout pins, else the bare name."""
    if distribution in facts.distributions:
        return f'{distribution}=={facts.distributions[distribution]}'
    return pins(stack or facts.stack).get(distribution, distribution)


def install_torch(facts: Facts) -> list[str]:
    """Put in a torch and a torchvision from one build that runs with and without a GPU."""
    version = facts.distributions.get('torch', '').partition('+')[0]
    if not version:
        return [pip('install', pinned('torch', facts), pinned('torchvision', facts))]
    return [
        pip('uninstall', '-y', 'torch', 'torchvision'),
        pip('install', f'torch=={version}', torchvision_for(version)),
    ]


def torchvision_for(torch_version: str) -> str:
    """The torchvision made for a torch since 2.0: 2.12 goes with 0.27."""
    match = re.match(r'2\.(\d+)', torch_version)
    return f'torchvision==0.{int(match.group(1)) + 15}.*' if match else 'torchvision'


def install_mmcv(facts: Facts, requirement: str | None = None) -> list[str]:
    """Put in mmcv without compiled operators, past pip's cache, which may hold a compiled one."""
    name = STACKS[facts.stack]['mmcv']
    variants = [it for it, of in VARIANTS.items() if of == 'mmcv' and it in facts.distributions]
    if variants and requirement is None:  # the same version
        requirement = f'{name}=={facts.distributions[variants[0]]}'
    requirement = requirement or pinned(name, facts)
    return [
        *([pip('uninstall', '-y', *variants)] if variants else []),  # they share files
        pip('install', *'--force-reinstall --no-deps --no-cache-dir'.split(), requirement),
        pip('install', requirement),  # now what it depends on
    ]


def install_mmhybrid() -> str:
    """Install mmhybrid alone, and with it the line that finds its operators."""
    options = '--force-reinstall --no-deps'.split()
    if (ROOT / 'setup.py').exists():
        return pip('install', *options, '-e', str(ROOT))
    return pip('install', *options, 'PATH_OF_THE_MMHYBRID_WHEEL')


def install_stack(stack: str) -> list[str]:
    """All of one stack beside a torch, where nothing of the other is left."""
    return [pip('install', *(pinned(it, Facts({}), stack) for it in STACKS[stack].values()))]


def reinstall(distribution: str, facts: Facts) -> list[str]:
    """The same version of one distribution again, past pip's cache."""
    options = '--force-reinstall --no-deps --no-cache-dir'.split()
    return [pip('install', *options, pinned(distribution, facts))]


# ---------------------------------------------------------------------------- judgement


def judge(module: str, message: str, facts: Facts) -> Problem:
    """Find the cause of the failure to import `module` with `message`."""
    if re.search(r'lib(GL|gthread|SM|X|xcb)\S*\.so\S*: cannot open', message):
        return opencv_without_libraries(facts)
    if (
        'torchvision::' in message
        or 'PyTorch and torchvision were compiled' in message
        or (module == 'torchvision' and re.search(r'undefined symbol|\.so\S*: cannot', message))
    ):
        return Problem(
            'torchvision-build',
            'torch and torchvision come from different builds',
            'One is made for the CPU and the other for CUDA, or for two versions. The pair below '
            'runs with and without a GPU.',
            install_torch(facts),
        )
    if module == 'mmcv._ext' or re.search(r'mmcv[/.]_ext', message):
        if re.search(r"No module named 'mmcv\._ext'", message):
            return Problem(
                'operators-missing',
                'mmcv has no operators here',
                'mmcv comes without compiled ones, and mmhybrid, which brings its own, is not '
                'installed in this environment.',
                [install_mmhybrid()],
            )
        if facts.probes.get('mmcv._ext', {}).get('operators') == 'mmhybrid':
            title = 'the operators of mmhybrid fail'
            return Problem('operators-failing', title, last_line(message), [install_mmhybrid()])
        return Problem(
            'operators-compiled',
            'the compiled operators of mmcv do not work',
            f'mmcv was compiled for another torch, or without CUDA ({last_line(message)}). Without '
            'them, those of mmhybrid are used; to compile them again: make install OPS=compiled.',
            install_mmcv(facts),
        )
    if 'transformers' in facts.distributions and re.search(
        r"NoneType takes no arguments|cannot import name .* from 'transformers", message
    ):
        return newer_transformers(facts)
    wanted = re.search(r'Please install (mmcv|mmengine) ?(>=? ?[\w.]+, ?<=? ?[\w.]*\w)', message)
    if wanted and 'incompatible' in message:
        return incompatible(module, wanted.group(1), wanted.group(2).replace(' ', ''), facts)
    if re.search(r'Numpy is not available|_ARRAY_API|NumPy 1\.x|multiarray failed', message):
        if 'numpy' not in facts.distributions:
            return missing('numpy', facts)
        title = 'a library made for NumPy 1 meets NumPy 2'
        return Problem('numpy-2', title, last_line(message), [pip('install', 'numpy<2')])
    absent = re.search(r"No module named '([\w.]+)'", message)
    if absent:
        return missing(absent.group(1), facts)
    return broken(module.partition('.')[0], last_line(message), facts)


def last_line(message: str) -> str:
    """The end of a message, where the cause is."""
    lines = message.strip().splitlines()
    return lines[-1].strip() if lines else 'it gives no message'


def missing(module: str, facts: Facts) -> Problem:
    """A module that is not there."""
    library = module.partition('.')[0]
    distribution = distribution_of(library, facts.stack)
    torch = facts.distributions.get('torch', '')
    if library == 'pkg_resources':
        title = 'setuptools is too new, or missing'
        why = 'A library imports pkg_resources, which setuptools 82 dropped.'
        return Problem('setuptools', title, why, [pip('install', SETUPTOOLS[facts.stack])])
    if distribution in facts.distributions or library == 'mmhybrid':
        why = f'It is installed, yet {module} is not there: its installation was interrupted, or '
        why += 'another package took files of it away.'
        return broken(library, why, facts)
    if library == 'torch' or (library == 'torchvision' and '+' in torch):
        commands = install_torch(facts)  # a build that has a local version has no match on PyPI
    elif library == 'torchvision':
        commands = [pip('install', torchvision_for(torch))]
    elif library == 'mmcv':
        commands = install_mmcv(facts)
    else:
        commands = [pip('install', pinned(distribution, facts))]
    title = f'{library} is not installed'
    return Problem(f'missing-{library}', title, NEEDED_BY.get(library, ''), commands)


def broken(library: str, why: str, facts: Facts) -> Problem:
    """A library that is there and does not work, for no reason that is known here."""
    distribution = distribution_of(library, facts.stack)
    if library == 'mmcv':
        commands = install_mmcv(facts)
    elif library == 'torch':
        commands = install_torch(facts)
    elif library == 'mmhybrid' or distribution not in facts.distributions:
        commands = []
    else:
        commands = reinstall(distribution, facts)
    return Problem(f'broken-{library}', f'{library or "a library"} fails at import', why, commands)


def slow(facts: Facts) -> Problem:
    """Imports that were not waited for to the end: nothing says that a library is broken."""
    failures = facts.probes.items()
    names = [name for name, found in failures if found.get('error') == 'Timeout']
    return Problem(
        'slow-import',
        f'importing {", ".join(names)} takes very long',
        f'{facts.probes[names[0]]["message"]}. Most often the machine or its disk is busy with '
        'something else. The command imports it once more; when it ends without an error, the next '
        'examination is quick. If it never ends, Ctrl-C shows where it stands.',
        [shlex.join([sys.executable, '-c', f'import {names[0]}'])],
    )


def incompatible(module: str, library: str, versions: str, facts: Facts) -> Problem:
    """A library of another version than `module` accepts."""
    requirement = STACKS[facts.stack][library] + versions
    title = f'{module} does not accept the {library} that is installed'
    commands = [pip('install', requirement)]
    if library == 'mmcv':
        commands = install_mmcv(facts, requirement)
    return Problem(f'version-{library}', title, f'It accepts {library}{versions}.', commands)


def newer_transformers(facts: Facts) -> Problem:
    """A transformers without names that mmpretrain imports, which then fails, and mmdet with it."""
    return Problem(
        'version-transformers',
        f'mmpretrain does not bear transformers {facts.distributions["transformers"]}',
        'Its models of images and text import names which are gone from it. Without transformers '
        'those models are left out and the rest works.',
        [pip('install', TRANSFORMERS[facts.stack])],
    )


def opencv_without_libraries(facts: Facts) -> Problem:
    """OpenCV cannot draw windows here, and need not."""
    found = [name for name in OPENCV_WITH_WINDOWS if name in facts.distributions]
    version = facts.distributions[found[0]] if found else ''
    # The builds share files: all go, then the one that works comes.
    commands = [
        pip('uninstall', '-y', *(found or OPENCV_WITH_WINDOWS), 'opencv-python-headless'),
        pip('install', '--no-deps', 'opencv-python-headless' + (version and f'=={version}')),
    ]
    return Problem(
        'opencv-libraries',
        'OpenCV needs graphics libraries that this machine lacks',
        'Its build without windows needs none of them and does the same work here.',
        commands,
    )


def diagnose(facts: Facts) -> list[Problem]:
    """The problems behind what was found, the first to mend first."""
    failures = {name: found for name, found in facts.probes.items() if 'error' in found}
    if 'torch' in failures and 'torch' not in facts.distributions and not facts.stacks:
        return [nothing_installed()]
    problems: dict[str, Problem] = {}
    if len(facts.stacks) > 1:
        problems['two-stacks'] = two_stacks(facts)
    causes: dict[str, Problem] = {}  # by message: what breaks one library breaks its users
    for module, found in failures.items():
        message = found['message']
        if found['error'] == 'Timeout':
            problem = slow(facts)
        else:
            problem = causes.get(message) or judge(module, message, facts)
        problem = causes[message] = problems.setdefault(problem.id, problem)
        problem.breaks.append(module)
        problem.blocks |= module in MAIN_JOB
    absent = facts.probes.get('mmhybrid', {}).get('installed') is False
    if absent and 'operators-missing' not in problems:  # it has the same cure
        problems['missing-mmhybrid'] = mmhybrid_not_installed()
    return list(problems.values())


def nothing_installed() -> Problem:
    """A Python without torch and without any of the MM libraries."""
    if (ROOT / 'Makefile').exists():
        why = 'The first command makes an environment with all of it, the second examines that.'
        commands = [
            f'make -C {shlex.quote(str(ROOT))} install',
            f'{shlex.quote(str(ROOT / ".venv" / "bin" / "python"))} -m mmhybrid.doctor',
        ]
    else:
        why = f'The commands install the {STACK_TITLES[DEFAULT_STACK]} into this Python.'
        commands = install_torch(Facts({})) + install_stack(DEFAULT_STACK)
    title = 'neither torch nor any of the MM libraries is installed'
    return Problem('nothing-installed', title, why, commands, blocks=True)


def two_stacks(facts: Facts) -> Problem:
    """Both stacks in one environment."""
    found = [name for names in facts.stacks.values() for name in names]
    return Problem(
        'two-stacks',
        f'two stacks are mixed: {", ".join(found)}',
        'They share import names, so files of one overwrote those of the other. The commands '
        f'keep the {STACK_TITLES[DEFAULT_STACK]}.',
        [pip('uninstall', '-y', *found), *install_stack(DEFAULT_STACK)],
        blocks=True,
    )


def mmhybrid_not_installed() -> Problem:
    """mmhybrid was found in the current folder alone."""
    return Problem(
        'missing-mmhybrid',
        'mmhybrid itself is not installed',
        'The tools of this checkout work all the same; a config elsewhere that names mmhybrid '
        'does not. The command installs mmhybrid alone and replaces nothing.',
        [install_mmhybrid()],
    )
