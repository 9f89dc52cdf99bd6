"""The set-up: its decisions with a runner that installs nothing, the real runner on echo."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from mmhybrid import __version__
from mmhybrid.remedies import Facts, diagnose
from mmhybrid.stacks import ROOT, STACKS, pins, requirements

spec = importlib.util.spec_from_file_location('install', ROOT / 'tools' / 'install.py')
setup = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup)

HEALTHY = {'problems': []}
SICK_MMCV = {
    'problems': [
        {
            'id': 'operators-compiled',
            'title': 'no ops',
            'why': 'cached',
            'commands': ['build it', 'then this'],
        }
    ]
}


class FakeRunner(setup.Runner):
    """Installs by writing metadata; remembers what it was told; fails where it is told to."""

    commands: list[list[str]]
    reports: list[dict]
    fail_at: str | None = None
    failure: type[BaseException] = setup.SetupError

    def create_venv(self) -> None:
        environment = self.environment
        (environment.path / 'lib' / f'python{setup.MINE}' / 'site-packages').mkdir(parents=True)
        environment.bin.mkdir()
        environment.python.touch()
        environment.config.write_text(f'home = /x\nversion = {setup.MINE}.1\n')

    def venv_works(self) -> bool:
        return self.environment.python.exists()

    def run(self, title: str, estimate: str, command: list[str]) -> None:
        self.commands.append(command)
        if self.fail_at and self.fail_at in ' '.join(command):
            raise self.failure('as told')
        for option, value in zip(command, command[1:], strict=False):
            lines = requirements(Path(value)) if option == '-r' else [value]
            for requirement in lines:
                if re.match(r'[\w-]+[<>=]', requirement):
                    put(self.environment, *re.split(r'[<>=]+', requirement)[:2])
            if option == '-e':
                folder = put(self.environment, 'mmhybrid', '1')
                (folder / 'direct_url.json').write_text(json.dumps({'url': Path(value).as_uri()}))

    def doctor(self) -> dict:
        return self.reports.pop(0) if self.reports else HEALTHY


def put(environment, name: str, version: str) -> Path:
    """Metadata of a distribution that is installed to its end."""
    folder = environment.site_packages / f'{name}-{version}.dist-info'
    folder.mkdir(exist_ok=True)
    (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
    (folder / 'INSTALLER').write_text('pip')
    return folder


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine that has what is needed, whatever this one has."""
    monkeypatch.setattr(setup, 'find_compiler', lambda: 'c++')
    monkeypatch.setattr(setup, 'DISK', 0)


@pytest.fixture
def venv(tmp_path):
    return setup.Environment(tmp_path / 'venv', 'onedl')


@pytest.fixture
def install(venv):
    """A function that runs the set-up and returns its exit code and what it ran."""

    def call(*options: str, reports=(), fail_at=None, failure=setup.SetupError):
        class Runner(FakeRunner):
            pass

        Runner.commands, Runner.reports = [], list(reports)
        Runner.fail_at, Runner.failure = fail_at, failure
        code = setup.main(['--venv', str(venv.path), *options], Runner)
        return code, [' '.join(command) for command in Runner.commands]

    return call


# What stands in the command of each step.
WORDS = ['torch==', 'lint.txt', str(ROOT)]


def test_first_and_second_time(install, venv):
    code, commands = install()
    assert code == 0 and venv.is_stamped() and venv.has_checkout()
    assert len(commands) == len(WORDS)
    assert all(word in command for word, command in zip(WORDS, commands, strict=True))
    isolated = ['--no-build-isolation' in command for command in commands]
    assert isolated == [False, False, True]  # no mmcv that sees a torch
    assert all(pin in commands[1] for pin in pins('onedl').values())
    assert '--no-deps' in commands[-1]
    assert install() == (0, [])


@pytest.mark.parametrize('stack', STACKS)
def test_compiled_operators_are_asked_for(install, venv, stack):
    options = ('--stack', stack)
    install(*options)
    code, commands = install(*options, '--ops', 'compiled')
    (build,) = (index for index, it in enumerate(commands) if '--force-reinstall' in it)
    assert code == 0 and 'torch==' in commands[0]
    assert '--no-build-isolation' in commands[build] and '--no-cache-dir' in commands[build]
    mmcv = {'onedl': 'onedl-mmcv', 'openmmlab': 'mmcv'}[stack]
    assert f' {mmcv}==' in commands[build]
    assert any('compiled.txt' in it for it in commands[:build])
    if stack == 'openmmlab':
        assert commands[build - 1].endswith('uninstall -y mmcv-lite')
        assert not any('mmcv-lite==' in it for it in commands)
    assert install(*options, '--ops', 'compiled') == (0, [])


def test_what_was_compiled_is_not_compiled_again(install, venv):
    install('--ops', 'compiled')
    venv.stamp.unlink()
    (venv.site_packages / 'mmcv').mkdir()
    (venv.site_packages / 'mmcv' / '_ext.so').touch()
    assert len(install('--ops', 'compiled')[1]) == len(WORDS)
    (venv.state / 'compiled.txt').write_text('onedl-mmcv==2.3.6 torch==2.0.0')
    venv.stamp.unlink()
    assert len(install('--ops', 'compiled')[1]) == len(WORDS) + 2


def test_mmcv_lite_is_not_put_over_a_compiled_mmcv(install, venv):
    FakeRunner(venv).create_venv()
    put(venv, 'mmcv', '2.1.0')
    code, commands = install('--stack', 'openmmlab')
    assert code == 0 and not any('mmcv-lite' in it for it in commands)


def test_every_stack_has_every_file():
    for stack, members in STACKS.items():
        assert all(file.exists() for file in setup.Environment(Path('venv'), stack).tests)
        assert all(f'{name}==' in pins(stack)[name] for name in members.values())


def test_every_python_gets_one_version_of_each_package():
    (major, oldest), (_, newest) = setup.PYTHONS
    for minor in range(oldest, newest + 1):
        python = {'python_version': f'{major}.{minor}'}
        for file in setup.REQUIREMENTS.rglob('*.txt'):
            every = [Requirement(line) for line in requirements(file)]
            names = [it.name for it in every if it.marker is None or it.marker.evaluate(python)]
            assert sorted(names) == sorted({it.name for it in every}), (file, python)


def test_requirements_of_another_day_are_installed(install, venv, tmp_path, monkeypatch):
    install()
    changed = tmp_path / 'requirements'
    shutil.copytree(setup.REQUIREMENTS, changed)
    monkeypatch.setattr(setup, 'REQUIREMENTS', changed)
    assert install() == (0, [])
    with (changed / 'onedl.txt').open('a') as file:
        file.write('einops>=0.8\n')
    assert not venv.is_stamped()
    assert len(install()[1]) == len(WORDS) and venv.is_stamped()


def test_environment_of_another_checkout_is_pointed_here(install, venv):
    install()
    (file,) = venv.site_packages.glob('mmhybrid-*.dist-info/direct_url.json')
    file.write_text('{"url": "file:///another/checkout"}')
    code, commands = install()
    assert code == 0 and len(commands) == 1 and commands[0].endswith(f'-e {ROOT}')


@pytest.mark.parametrize('step', WORDS)
@pytest.mark.parametrize(('failure', 'code'), [(KeyboardInterrupt, 130), (setup.SetupError, 1)])
def test_what_was_cut_short_is_finished_the_next_time(install, venv, step, failure, code):
    assert install(fail_at=step, failure=failure)[0] == code
    assert not venv.is_stamped()
    half = put(venv, 'half', '1')
    (half / 'INSTALLER').unlink()
    moved = venv.site_packages / '~orch'
    moved.mkdir()
    assert install()[0] == 0
    assert venv.is_stamped() and not half.exists() and not moved.exists()


def test_an_interrupted_update_leaves_no_stamp(install, venv, monkeypatch):
    install()
    venv.stamp.write_text('"of other requirements"')
    assert install(fail_at='lint.txt', failure=KeyboardInterrupt)[0] == 130
    assert not venv.stamp.exists()


def test_what_the_doctor_finds_is_mended(install, venv):
    code, commands = install(reports=[SICK_MMCV])
    assert code == 0 and venv.is_stamped()
    assert commands[-2:] == ['build it', 'then this']


def test_what_stays_broken_is_reported_once_tried(install, venv, capsys):
    code, commands = install(reports=[SICK_MMCV] * 3)
    assert code == 1 and not venv.is_stamped()
    assert commands.count('build it') == 1
    assert 'no ops. cached' in capsys.readouterr().err


def test_operators_that_were_asked_for_are_not_taken_away(install, venv, capsys):
    code, commands = install('--ops', 'compiled', reports=[SICK_MMCV])
    assert code == 1 and 'build it' not in commands
    assert '    build it' in capsys.readouterr().err


def test_a_slow_import_is_no_reason_to_install_again(install, capsys):
    probe = {'error': 'Timeout', 'message': 'its import takes more than 300 seconds'}
    (problem,) = diagnose(Facts({'onedl-mmdetection': '3.5.1'}, {'mmdet': probe}))
    code, commands = install(reports=[{'problems': [vars(problem)]}])
    assert code == 1 and len(commands) == len(WORDS)
    assert 'importing mmdet takes very long' in capsys.readouterr().err


def test_another_stack_is_refused(install, venv, capsys):
    install()
    put(venv, 'mmcv-lite', '2.1.0')
    code, commands = install()
    assert code == 1 and not commands
    error = capsys.readouterr().err
    assert 'another stack (mmcv-lite)' in error and 'VENV=' in error and 'rm -rf' in error


def test_folders_that_are_no_environment_are_refused(install, venv, capsys):
    venv.path.mkdir()
    (venv.path / 'thesis.tex').touch()
    assert install() == (1, [])
    assert (venv.path / 'thesis.tex').exists()
    assert 'other things in it' in capsys.readouterr().err
    shutil.rmtree(venv.path)
    venv.path.touch()
    assert install() == (1, [])
    assert 'is a file' in capsys.readouterr().err


def test_another_python_is_refused(install, venv, capsys):
    install()
    venv.config.write_text('version = 3.9.1\n')
    assert install() == (1, [])
    assert 'has Python 3.9, and PYTHON is' in capsys.readouterr().err


def test_a_working_environment_of_the_user_is_not_changed(install, venv, capsys):
    FakeRunner(venv).create_venv()
    put(venv, 'torch', '2.1.0+cu118')
    assert install() == (1, [])
    error = capsys.readouterr().err
    assert 'torch 2.1.0+cu118' in error and f'-m pip install -e {ROOT}' in error
    assert not venv.state.exists()
    venv.python.unlink()
    assert install() == (1, [])
    assert venv.config.exists()


def test_an_environment_that_a_failed_set_up_touched_stays_the_users(
    install, venv, monkeypatch, capsys
):
    FakeRunner(venv).create_venv()
    (venv.path / 'thesis.tex').touch()
    with monkeypatch.context() as context:
        context.setattr(setup, 'DISK', 10**9)
        assert install() == (1, [])
    put(venv, 'torch', '2.1.0')
    assert install() == (1, []) and 'would be replaced: torch 2.1.0' in capsys.readouterr().err
    venv.python.unlink()
    assert install() == (1, [])
    assert (venv.path / 'thesis.tex').exists() and venv.config.exists()


@pytest.mark.parametrize(
    ('requirement', 'version', 'other'),
    [
        ('timm==1.0.31', '0.9.16', True),
        ('torch==2.12.1', '2.12.1+cu130', False),
        ('torch==2.12.1', '2.12.1rc1', True),
        ('setuptools>=80,<82', '75.1', True),
        ('setuptools>=80,<82', '81.0.0', False),
        ('setuptools>=80,<82', '82', True),
        ("onnx==1.0; python_version < '3.9'", '2.0', False),
        ("onnx==1.0; python_version >= '3.9'", '2.0', True),
        ('absent==1.0', None, False),
    ],
)
def test_what_pip_would_replace(requirement, version, other):
    name = re.match(r'\w+', requirement)[0]
    assert setup.replaces(requirement, {name: version} if version else {}) == other


def test_tools_of_the_tests_are_not_put_in_the_place_of_the_users(install, venv, capsys):
    FakeRunner(venv).create_venv()
    put(venv, 'timm', '0.9.16')
    assert install() == (1, [])
    assert 'timm 0.9.16 (pinned: timm==' in capsys.readouterr().err


def test_an_environment_of_the_user_with_the_same_versions_is_used(install, venv):
    FakeRunner(venv).create_venv()
    put(venv, 'torch', '2.12.1+cu130')
    assert install()[0] == 0


def test_an_environment_that_lost_its_python_is_made_again(install, venv):
    install()
    venv.python.unlink()
    stale = put(venv, 'stale', '1')
    (venv.path / 'lib64').symlink_to('lib')
    (venv.path / 'notes.txt').touch()
    code, commands = install()
    assert code == 0 and len(commands) == len(WORDS)
    assert not stale.exists() and venv.is_stamped()
    assert not (venv.path / 'lib64').exists() and (venv.path / 'notes.txt').exists()


def test_what_the_machine_lacks_is_said_before_anything_is_fetched(
    install, venv, monkeypatch, capsys
):
    lacks = {
        'DISK': (10**9, 'GB of disk left'),
        'PYTHONS': (((3, 8), (3, 9)), 'Name another one'),
    }
    for name, (value, message) in lacks.items():
        with monkeypatch.context() as context:
            context.setattr(setup, name, value)
            assert install() == (1, [])
        assert message in capsys.readouterr().err
        assert venv.path.exists() == (name == 'DISK')
        shutil.rmtree(venv.path, ignore_errors=True)
    monkeypatch.setattr(setup, 'find_compiler', lambda: None)
    assert install('--ops', 'compiled') == (1, [])
    assert 'OPS=compiled needs one' in capsys.readouterr().err
    assert install()[0] == 0


def test_one_set_up_at_a_time(install, venv, capsys):
    venv.state.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(venv.state / 'lock.db', isolation_level=None)) as lock:
        lock.execute('BEGIN EXCLUSIVE')
        thread = threading.Thread(target=install)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
    thread.join(5)
    assert venv.is_stamped()
    assert 'Waiting for another set-up' in capsys.readouterr().out


# ---------------------------------------------------------------------------- the real runner


@pytest.fixture
def runner(venv):
    venv.state.mkdir(parents=True)
    return setup.Runner(venv)


def test_runner_logs_and_reports_failure(runner, venv, capsys):
    runner.run('step', 'soon', ['/bin/sh', '-c', 'echo hello; echo $TMPDIR'])
    assert 'hello' in venv.log.read_text() and str(venv.temporary) in venv.log.read_text()
    assert 'step (soon)' in capsys.readouterr().out
    with pytest.raises(setup.SetupError, match='(?s)step failed with exit code 3.*so it goes'):
        runner.run('step', 'soon', ['/bin/sh', '-c', 'echo so it goes; exit 3'])
    assert not venv.temporary.exists()


def test_interruption_ends_the_whole_family(runner, venv, monkeypatch):
    """Compilers must not go on in the background."""
    pid_file = venv.path / 'pid'

    def interrupt(process, start):
        while not (pid_file.exists() and pid_file.read_text().endswith('\n')):
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, 'watch', interrupt)
    command = f'sleep 60 & echo $! > {pid_file}; wait'
    with pytest.raises(KeyboardInterrupt):
        runner.run('step', 'soon', ['/bin/sh', '-c', command])
    for _ in range(500):
        state = subprocess.run(
            ['ps', '-o', 'stat=', '-p', pid_file.read_text().strip()],
            capture_output=True,
            text=True,
        ).stdout
        if not state or state.startswith('Z'):
            break
        time.sleep(0.01)
    else:
        pytest.fail('the child of the step is still running')


def test_runner_keeps_foreign_settings_out(runner, monkeypatch):
    for name in setup.FOREIGN_VARIABLES:
        monkeypatch.setenv(name, 'elsewhere')
    monkeypatch.delenv('CFLAGS', raising=False)
    variables = runner.variables()
    assert not set(setup.FOREIGN_VARIABLES) & set(variables)
    assert variables['CFLAGS'] == '-O2 -g0 -w'
    assert variables['PATH'].startswith(str(runner.environment.bin))


# ---------------------------------------------------------------------------- what is around it


def test_make_lists_its_targets_and_runs_the_set_up_first():

    def make(*arguments: str) -> str:
        # This may be `make test`, or run with an environment of the user's choice.
        outer = ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'VENV', 'STACK', 'OPS', 'EPOCHS')
        variables = {key: value for key, value in os.environ.items() if key not in outer}
        return subprocess.check_output(['make', *arguments], cwd=ROOT, env=variables, text=True)

    text = make('help')
    for target in ('install', 'test', 'test-openmmlab', 'demo', 'lint', 'clean'):
        assert re.search(rf'^  {target} ', text, re.MULTILINE)
    for target, command in {'test': '-m pytest', 'demo': 'tools/demo.py'}.items():
        plan = make('-n', target, 'VENV=/x y', 'STACK=onedl')
        assert '--venv "/x y" --stack "onedl"' in plan.splitlines()[0]
        assert f'"/x y/bin/python" {command}' in plan.splitlines()[1]
    assert '--venv ".venv" --stack "onedl"' in make('-n', 'test')
    assert '--venv ".venv-openmmlab" --stack "openmmlab"' in make('-n', 'test-openmmlab')
    set_up, *checks = make('-n', 'lint', 'VENV=/x y').splitlines()
    assert '--venv "/x y" --stack "onedl"' in set_up  # mypy reads the types of the stack
    for number, command in enumerate(('ruff check ', 'ruff format --check ', 'mypy')):
        assert checks[number].startswith(f'"/x y/bin"/{command}')
    compiled = make('-n', 'test', 'OPS=compiled')
    assert '--venv ".venv-compiled" --stack "onedl" --ops "compiled"' in compiled
    assert '".venv-compiled/bin/python" -m pytest' in compiled
    assert 'tools/demo.py --epochs 1' in make('-n', 'demo', 'EPOCHS=1')


def test_hooks_have_the_versions_that_lint_has():
    (local,) = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())['repos']
    lines = (ROOT / 'requirements/lint.txt').read_text().splitlines()
    pinned = [line for line in lines if not line.startswith('#')]
    assert [hook['id'] for hook in local['hooks']] == ['ruff', 'ruff-format', 'mypy']
    for hook in local['hooks']:
        given = hook.get('additional_dependencies') or [hook['entry'].rpartition('/')[2]]
        assert len([pin for pin in pinned if pin.startswith(given[0])]) == 1, hook


def test_the_package_requires_nothing(tmp_path):
    """In a working environment `pip install -e .` must replace nothing."""
    command = [sys.executable, 'setup.py', '-q', 'egg_info', '--egg-base', str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    info = tmp_path / 'mmhybrid.egg-info'
    assert f'\nVersion: {__version__}\n' in (info / 'PKG-INFO').read_text()
    unconditional = (info / 'requires.txt').read_text().partition('[')[0]
    assert not unconditional.strip()
