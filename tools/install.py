"""Set up an environment with a pinned stack; `make install` runs this.

It is `pip install -r requirements/STACK.txt -e .` with an environment, a sign of life and the tools
of the tests. What an interruption left behind is cleared away, the doctor examines the result, what
it knows to mend is mended, and a stamp is written when all is well: with the stamp, nothing is done
again. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import operator
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ((3, 10), (3, 13))  # the oldest and the newest that the pinned versions come for
WRONG_PYTHON = (
    'PYTHON is {0[0]}.{0[1]}; expected {1[0]}.{1[1]} to {2[0]}.{2[1]}, which the pinned versions '
    'come for. Name another one, as in: make install PYTHON=python3.11'
).format(sys.version_info, *PYTHONS)
if sys.version_info < PYTHONS[0]:  # the next imports fail with it
    sys.exit(WRONG_PYTHON)

sys.path.insert(0, str(ROOT))
from mmhybrid.doctor import find_compiler  # noqa: E402
from mmhybrid.stacks import (  # noqa: E402
    DEFAULT_STACK,
    REQUIREMENTS,
    STACK_TITLES,
    STACKS,
    installed_distributions,
    installed_stacks,
    pins,
    requirements,
)

MINE = '{}.{}'.format(*sys.version_info)
FIRST = ('torch', 'torchvision', 'numpy')  # a step of their own: they take longest
COMPILED = REQUIREMENTS / 'compiled.txt'
PROJECT = ROOT / 'pyproject.toml'  # names the program that the environment gets
FINDER = ROOT / 'mmhybrid' / 'ops' / 'finder.py'  # the environment holds a copy of its text
LINT = REQUIREMENTS / 'lint.txt'
TESTS = REQUIREMENTS / 'tests.txt'
DISK = 12  # GB: what is installed, and as much again while pip unpacks it
# What `python -m venv` makes; nothing else in the folder is ever removed.
PARTS = ('bin', 'Scripts', 'include', 'Include', 'lib64', 'lib', 'Lib', 'share', 'pyvenv.cfg')
COMPARE = {
    '==': operator.eq,
    '>=': operator.ge,
    '<=': operator.le,
    '<': operator.lt,
    '>': operator.gt,
}
MENDABLE = ('operators', 'opencv-libraries', 'broken-', 'missing-')
COMPILER_FLAGS = '-O2 -g0 -w'  # no debug information: a third off the time
FOREIGN_VARIABLES = (
    'PYTHONHOME', 'PYTHONPATH', 'PIP_NO_BUILD_ISOLATION', 'PIP_PREFIX', 'PIP_REQUIRE_VIRTUALENV',
    'PIP_TARGET', 'PIP_USER',
)  # fmt: skip


class SetupError(Exception):
    """The set-up cannot go on; the message says what to do."""


class Environment:
    """A virtual environment, and the folder in it where the set-up keeps its state."""

    def __init__(self, path: Path, stack: str, compiled: bool = False) -> None:
        self.path = path
        self.stack = stack
        self.compiled = compiled  # mmcv's own operators
        self.bin = path / ('Scripts' if os.name == 'nt' else 'bin')
        self.python = self.bin / ('python.exe' if os.name == 'nt' else 'python')
        self.config = path / 'pyvenv.cfg'
        self.state = path / '.mmhybrid'
        self.stamp = self.state / 'stamp.json'
        self.mark = self.state / 'made'  # here, or brought to the pinned versions with consent
        self.log = self.state / 'install.log'
        self.temporary = self.state / 'tmp'

    @property
    def site_packages(self) -> Path:
        """The folder of packages; one that does not exist where there are none."""
        pattern = 'Lib/site-packages' if os.name == 'nt' else 'lib/python3*/site-packages'
        return next(self.path.glob(pattern), self.path / 'lib')

    @property
    def distributions(self) -> dict[str, str]:
        """Names and versions of the installed distributions."""
        return installed_distributions([str(self.site_packages)])

    @property
    def python_version(self) -> str:
        """Major and minor version of its Python, as `pyvenv.cfg` says."""
        for line in self.config.read_text('utf-8').splitlines():
            key, _, value = line.partition('=')
            if key.strip() in ('version', 'version_info'):
                return '.'.join(value.strip().split('.')[:2])
        return 'unknown'

    @property
    def is_ours(self) -> bool:
        """True if a set-up made it, or was once finished in it."""
        return self.mark.exists() or self.stamp.exists()

    @property
    def tests(self) -> list[Path]:
        """Requirements of what tests need beside the stack."""
        return [REQUIREMENTS / f'tests-{self.stack}.txt', TESTS, LINT]

    def key(self) -> str:
        """Hash what the stamp depends on: requirements, Python, the package, operators' finder."""
        files = [REQUIREMENTS / f'{self.stack}.txt', *self.tests, FINDER, PROJECT]
        files += [COMPILED] if self.compiled else []
        text = [self.python_version, *(f'{file.name}\n{file.read_text("utf-8")}' for file in files)]
        return hashlib.sha256('\n'.join(text).encode()).hexdigest()

    def is_stamped(self) -> bool:
        """Return True if a set-up with this stack and these requirements was finished."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self.stamp.read_text()) == self.key()
        return False

    def write_stamp(self) -> None:
        """Say that the set-up is finished, in one step that cannot be cut in half."""
        new = self.stamp.with_suffix('.new')
        new.write_text(json.dumps(self.key()))
        new.replace(self.stamp)

    def has_checkout(self) -> bool:
        """Return True if its mmhybrid is this checkout: checkouts share environments."""
        for file in self.site_packages.glob('mmhybrid-*.dist-info/direct_url.json'):
            return json.loads(file.read_text()).get('url') == ROOT.as_uri()
        return False


class Runner:
    """Runs commands: their output goes to a log, a sign of life to the terminal."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment

    def variables(self) -> dict[str, str]:
        """The variables for pip, without those that would lead it elsewhere."""
        environment = self.environment
        variables = {k: v for k, v in os.environ.items() if k not in FOREIGN_VARIABLES}
        return {
            **{'CFLAGS': COMPILER_FLAGS, 'CXXFLAGS': COMPILER_FLAGS, **variables},
            'PATH': f'{environment.bin}{os.pathsep}{os.environ.get("PATH", os.defpath)}',
            'PIP_DISABLE_PIP_VERSION_CHECK': '1',
            'PIP_NO_INPUT': '1',
            'PYTHONUNBUFFERED': '1',
            'TMPDIR': str(environment.temporary),  # /tmp is often too small for torch
        }

    def run(self, title: str, estimate: str, command: list[str]) -> None:
        """Run one step.

        Raises:
            SetupError: the command failed; the message ends with the last of its output.
        """
        print(f'{title} ({estimate})', flush=True)
        environment = self.environment
        shutil.rmtree(environment.temporary, ignore_errors=True)
        environment.temporary.mkdir(parents=True)
        start = time.monotonic()
        with environment.log.open('ab') as log:
            log.write(f'\n$ {shlex.join(command)}\n'.encode())
            log.flush()
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that an interruption ends what pip starts too
            )
        try:
            self.watch(process, start)
        except BaseException:
            end_group(process)
            raise
        finally:
            shutil.rmtree(environment.temporary, ignore_errors=True)
        if process.returncode:
            lines = environment.log.read_text('utf-8', errors='replace').splitlines()[-25:]
            raise SetupError(
                f'{title} failed with exit code {process.returncode}. The end of '
                f'{environment.log}:\n\n' + '\n'.join(f'    {line}' for line in lines) + '\n\n'
                'When the cause is mended, run the same again: finished steps take seconds.'
            )
        print(f'  done in {clock(time.monotonic() - start)}', flush=True)

    def watch(self, process: subprocess.Popen, start: float) -> None:
        """Wait for a process; each second on a terminal, else each minute, say what it does."""
        live = sys.stdout.isatty()
        pause = 1 if live else 60
        while True:
            try:
                process.wait(pause)
                break
            except subprocess.TimeoutExpired:
                text = f'  {clock(time.monotonic() - start)}  {self.last_line()}'
                text = text[: shutil.get_terminal_size().columns - 1]
                print(f'\r\033[K{text}' if live else text, end='' if live else '\n', flush=True)
        if live:
            print('\r\033[K', end='')

    def last_line(self) -> str:
        """The last line of what the running command printed."""
        lines = self.environment.log.read_text('utf-8', errors='replace').splitlines()
        return lines[-1].strip() if lines else ''

    def doctor(self) -> dict:
        """The doctor's report on the environment."""
        variables = {k: v for k, v in os.environ.items() if k not in FOREIGN_VARIABLES}
        command = [str(self.environment.python), '-m', 'mmhybrid.doctor', '--json']
        process = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
        try:
            return json.loads(process.stdout)
        except ValueError:
            raise SetupError(f'{shlex.join(command)} gave no report:\n{process.stderr}') from None

    def create_venv(self) -> None:
        """Make the virtual environment."""
        command = [sys.executable, '-m', 'venv', str(self.environment.path)]
        process = subprocess.run(command, capture_output=True, text=True)
        if process.returncode:
            raise SetupError(f'{shlex.join(command)} failed:\n{process.stdout}{process.stderr}')

    def venv_works(self) -> bool:
        """Return True if the environment has a Python that starts and has pip."""
        command = [str(self.environment.python), '-I', '-c', 'import pip']
        with contextlib.suppress(OSError):
            return subprocess.run(command, capture_output=True).returncode == 0
        return False


def replaces(requirement: str, distributions: dict[str, str]) -> bool:
    """Return True if pip would put another version in the place of what is installed."""
    text, _, marker = requirement.partition(';')
    wanted = bounds(marker.replace("'", '')) or [('>=', (0,))]
    if not all(COMPARE[sign](sys.version_info[:2], bound) for sign, bound in wanted):
        return False  # for another Python
    name = re.split(r'[<>=!~\[ ]', text)[0]
    if name not in distributions:
        return False
    version = distributions[name].partition('+')[0]
    if '==' in text:
        return version != text.partition('==')[2].strip()
    ((_, numbers),) = bounds(f'=={version}')
    return not all(COMPARE[sign](numbers, bound) for sign, bound in bounds(text))


def bounds(text: str) -> list[tuple[str, tuple[int, ...]]]:
    """Signs and versions in a requirement, or its marker."""
    found = re.findall(r'(==|>=|<=|<|>)\s*([\d.]+)', text)
    return [(sign, tuple(map(int, version.strip('.').split('.')))) for sign, version in found]


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def end_group(process: subprocess.Popen) -> None:
    """End a process and all that it started."""
    for number in ('SIGTERM', 'SIGKILL'):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            if hasattr(os, 'killpg'):
                os.killpg(process.pid, getattr(signal, number))
            else:
                process.kill()
            process.wait(10)


# ---------------------------------------------------------------------------- the set-up


def check_target(environment: Environment, runner: Runner) -> None:
    """Refuse a folder that the set-up would spoil.

    Raises:
        SetupError: it is no environment, or holds another stack, Python or versions.
    """
    path = environment.path
    other = 'Name another folder, as in: make install VENV=.venv-mmhybrid'
    if path.exists() and not path.is_dir():
        raise SetupError(f'VENV={path} is a file; expected a folder. {other}')
    ours = environment.is_ours
    things = {it for it in path.iterdir() if it != environment.state} if path.exists() else ()
    if things and not ours and not environment.config.exists():
        raise SetupError(
            f'VENV={path} is a folder with other things in it; expected a virtual environment or '
            f'nothing. {other}'
        )
    if not environment.config.exists():
        return
    if environment.python.exists() and environment.python_version != MINE:
        raise SetupError(
            f'VENV={path} has Python {environment.python_version}, and PYTHON is {MINE}; expected '
            f'the same. {other}, or remove it: rm -rf {shlex.quote(str(path))}'
        )
    stacks = installed_stacks(environment.distributions)
    strangers = [
        name for stack, names in stacks.items() if stack != environment.stack for name in names
    ]
    if strangers:
        raise SetupError(
            f'VENV={path} holds another stack ({", ".join(strangers)}) than the '
            f'{STACK_TITLES[environment.stack]}. They share import names and cannot be together. '
            f'{other}, or remove it: rm -rf {shlex.quote(str(path))}'
        )
    if not ours:
        if not runner.venv_works():
            raise SetupError(f'VENV={path} was not made here and has no working pip. {other}')
        check_foreign_versions(environment, other)


def check_foreign_versions(environment: Environment, other: str) -> None:
    """Refuse to replace what somebody else installed."""
    python, root = shlex.quote(str(environment.python)), shlex.quote(str(ROOT))
    distributions = environment.distributions
    wanted = list(pins(environment.stack).values())
    wanted += [line for file in (TESTS, LINT) for line in requirements(file)]
    replaced = [
        f'{name} {distributions[name]} (pinned: {requirement})'
        for requirement in wanted
        if replaces(requirement, distributions)
        for name in re.findall(r'^[\w-]+', requirement)
    ]
    if replaced:
        raise SetupError(
            f'VENV={environment.path} was not made here, and its versions would be replaced: '
            f'{", ".join(replaced)}. To use it as it is:\n'
            f'    {python} -m pip install -e {root}\n'
            f'{other}'
        )


def check_machine(environment: Environment) -> None:
    """Find what is missing before gigabytes are fetched.

    Raises:
        SetupError: too little disk, or a compiler that is asked for and absent.
    """
    if 'torch' not in environment.distributions:
        free = shutil.disk_usage(environment.path).free / 1e9
        if free < DISK:
            raise SetupError(
                f'{environment.path} has {free:.1f} GB of disk left; expected {DISK} GB. Free '
                'some, or name a folder on another disk: make install VENV=/path/to/venv'
            )
    if environment.compiled and find_compiler() is None:
        raise SetupError(
            f'No C++ compiler ({os.environ.get("CXX", "c++")}), and OPS=compiled needs one. On '
            f'Debian and Ubuntu: sudo apt-get install g++ python{MINE}-dev; or leave OPS=compiled '
            'out: mmhybrid brings operators that need no compiler'
        )


def prepare_venv(environment: Environment, runner: Runner) -> None:
    """Make the environment, or make it again where that was interrupted."""
    if runner.venv_works():
        return
    if importlib.util.find_spec('ensurepip') is None:
        raise SetupError(
            f'{sys.executable} cannot make virtual environments. On Debian and Ubuntu: sudo '
            f'apt-get install python{MINE}-venv'
        )
    for name in PARTS:
        remove(environment.path / name)
    environment.stamp.unlink(missing_ok=True)
    environment.mark.touch()
    print(f'Making the virtual environment {environment.path}', flush=True)
    runner.create_venv()


def remove(path: Path) -> None:
    """Remove a file, a link (`lib64` is one to `lib`) or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def clear_interrupted(environment: Environment) -> None:
    """Remove what makes pip take an interrupted installation for a finished one.

    pip writes INSTALLER after the files of a package, and moves what it replaces to names with ~.
    """
    for metadata in environment.site_packages.glob('*.dist-info'):
        if not (metadata / 'INSTALLER').exists():
            shutil.rmtree(metadata)
    for leftover in environment.site_packages.glob('~*'):
        remove(leftover)


def install_stack(environment: Environment, runner: Runner) -> None:
    """torch, which takes longest; then the rest of the stack and what tests need."""
    pip = [str(environment.python), '-m', 'pip', 'install']
    pinned = pins(environment.stack)
    first = [pinned[name] for name in FIRST]
    runner.run('torch and torchvision', '6 GB on disk; minutes, by the connection', [*pip, *first])
    if environment.compiled:
        compile_mmcv(environment, runner, pip)
    if 'mmcv' in environment.distributions:  # compiled: its files are those of mmcv-lite as well
        pinned.pop('mmcv-lite', None)
    files = [part for file in environment.tests for part in ('-r', str(file))]
    title = 'MMCV, MMDetection, MMSegmentation, MMPretrain and the tools of the tests'
    runner.run(title, 'a minute or two', [*pip, *pinned.values(), *files])


def compile_mmcv(environment: Environment, runner: Runner, pip: list[str]) -> None:
    """Build mmcv with its operators, beside torch and past pip's cache, unless that was done."""
    pinned = pins(environment.stack)
    mmcv = pinned[STACKS[environment.stack]['mmcv']].replace('mmcv-lite', 'mmcv')
    built, wanted = environment.state / 'compiled.txt', f'{mmcv} {pinned["torch"]}'
    done = built.exists() and built.read_text() == wanted
    if done and any(environment.site_packages.glob('mmcv/_ext*')):
        return
    runner.run('compilers', 'seconds', [*pip, pinned['setuptools'], '-r', str(COMPILED)])
    if 'mmcv-lite' in environment.distributions:
        runner.run('without mmcv-lite', 'seconds', [*pip[:-1], 'uninstall', '-y', 'mmcv-lite'])
    options = '--no-build-isolation --no-cache-dir --force-reinstall --no-deps'.split()
    estimate = 'compiled here: 5 to 15 minutes on two cores, up to an hour on slow ones'
    runner.run('MMCV with its operators', estimate, [*pip, *options, mmcv])
    built.write_text(wanted)


def install_checkout(environment: Environment, runner: Runner) -> None:
    """mmhybrid itself, editable, and nothing else."""
    options = ['--no-build-isolation', '--no-deps', '-e', str(ROOT)]
    command = [str(environment.python), '-m', 'pip', 'install', *options]
    runner.run(f'mmhybrid from {ROOT}', 'seconds', command)


def examine_and_mend(environment: Environment, runner: Runner) -> None:
    """Let the doctor examine the environment; run the commands it names where they are known.

    Raises:
        SetupError: something stays broken.
    """
    tried: set[str] = set()
    while True:
        print('Examining the result (half a minute)', flush=True)
        report = runner.doctor()
        problems = [p for p in report['problems'] if not p['id'].startswith('broken-mmhybrid')]
        if not problems:
            return
        mendable = [
            problem
            for problem in problems
            if problem['id'].startswith(MENDABLE) and problem['id'] not in tried
            if not (environment.compiled and problem['id'] == 'operators-compiled')
        ]
        if not mendable:
            raise SetupError(describe(problems))
        problem = mendable[0]
        tried.add(problem['id'])
        print(f'Mending: {problem["title"]}. {problem["why"]}', flush=True)
        for command in problem['commands']:
            runner.run(command, 'the doctor says so', shlex.split(command))


def describe(problems: list[dict]) -> str:
    """The doctor's problems as a message."""
    lines = ['The environment is installed, and this is still broken:']
    for problem in problems:
        lines += [f'  {problem["title"]}. {problem["why"]}']
        lines += [f'    {command}' for command in problem['commands']]
    return '\n'.join([*lines, 'Then run the same again.'])


def install(environment: Environment, runner: Runner) -> None:
    """Everything, or nothing where it is all there.

    Raises:
        SetupError: a step failed, or something stays broken.
    """
    if not environment.is_stamped():
        if environment.stamp.exists():
            environment.mark.touch()
        environment.stamp.unlink(missing_ok=True)
        environment.log.unlink(missing_ok=True)
        check_machine(environment)
        clear_interrupted(environment)
        install_stack(environment, runner)
        install_checkout(environment, runner)
        examine_and_mend(environment, runner)
        environment.write_stamp()
        print(f'Ready: {environment.path} holds the {STACK_TITLES[environment.stack]}.')
    elif not environment.has_checkout():
        install_checkout(environment, runner)
    else:
        print(f'{environment.path} is up to date.')


@contextlib.contextmanager
def locked(environment: Environment) -> Iterator[None]:
    """Let one set-up at a time into an environment; a lock dies with the process that holds it."""
    lock = sqlite3.connect(environment.state / 'lock.db', timeout=0, isolation_level=None)
    with contextlib.closing(lock):
        try:
            lock.execute('BEGIN EXCLUSIVE')
        except sqlite3.OperationalError:
            print(f'Waiting for another set-up that is at work in {environment.path}', flush=True)
            lock.execute(f'PRAGMA busy_timeout = {24 * 3600 * 1000}')
            lock.execute('BEGIN EXCLUSIVE')
        yield


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--venv', default='.venv', help='folder of the virtual environment')
    parser.add_argument('--stack', default=DEFAULT_STACK, choices=sorted(STACKS))
    parser.add_argument(
        '--ops',
        default='mmhybrid',
        choices=('mmhybrid', 'compiled'),
        help="operators: mmhybrid's, which need no compiler, or mmcv's own, compiled here",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None, make_runner: Callable[..., Runner] = Runner) -> int:
    """Set up the environment and return the exit code."""
    options = parse(arguments)
    # Not resolve(): a link to a folder on a larger disk stays a link.
    path = Path(options.venv).expanduser().absolute()
    environment = Environment(path, options.stack, options.ops == 'compiled')
    runner = make_runner(environment)
    try:
        if sys.version_info[:2] > PYTHONS[1]:
            raise SetupError(WRONG_PYTHON)
        check_target(environment, runner)
        environment.state.mkdir(parents=True, exist_ok=True)
        with locked(environment):
            prepare_venv(environment, runner)
            install(environment, runner)
    except SetupError as error:
        print(f'\n{error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nInterrupted. Run the same again to go on.', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    for name in ('SIGTERM', 'SIGHUP'):  # as with Ctrl-C, end what is running
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, _: sys.exit(128 + number))
    sys.exit(main())
