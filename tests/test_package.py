"""What is published: a source archive, the wheel made of it, and that wheel installed alone."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import mmhybrid
from mmhybrid.stacks import ROOT, requirements

PARTS = ('configs', 'docs', 'mmhybrid', 'requirements', 'tests', 'tools')
FILES = (
    'LICENSE', 'MANIFEST.in', 'Makefile', 'NOTICE', 'README.md', 'model-index.yml',
    'pyproject.toml', 'setup.py',
)  # fmt: skip


def run(*command, cwd, **variables):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A copy of this checkout."""
    checkout = tmp_path_factory.mktemp('package') / 'checkout'
    for part in PARTS:
        ignored = shutil.ignore_patterns('__pycache__', '_build', 'golden', 'images')
        shutil.copytree(ROOT / part, checkout / part, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, checkout)
    return checkout


@pytest.fixture(scope='module')
def wheel(checkout):
    """The wheel that is built from the source archive, not from the checkout."""
    folder = checkout.parent
    run('setup.py', '-q', 'sdist', '-d', folder, cwd=checkout)
    (archive,) = folder.glob('*.tar.gz')
    shutil.unpack_archive(archive, folder / 'source', filter='data')
    (source,) = (folder / 'source').iterdir()
    run('setup.py', '-q', 'bdist_wheel', '-d', folder, cwd=source)
    (found,) = folder.glob('*.whl')
    return found


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """A function that runs a program where the wheel is all there is of mmhybrid."""
    target = tmp_path_factory.mktemp('installed')
    pip = ('-m', 'pip', '-q', '--disable-pip-version-check', 'install', '--no-index', '--no-deps')
    run(*pip, '--target', target, wheel, cwd=target)
    elsewhere = tmp_path_factory.mktemp('elsewhere')
    return lambda *command: run(*command, cwd=elsewhere, PYTHONPATH=str(target)), elsewhere


def test_wheel_holds_what_it_should(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    own = {str(path.relative_to(ROOT)) for path in (ROOT / 'mmhybrid').rglob('*.py')}
    configs = {f'mmhybrid/.mim/{p.relative_to(ROOT)}' for p in (ROOT / 'configs').rglob('*.py')}
    others = {'mmhybrid/py.typed', 'mmhybrid/.mim/tools/train.py', 'mmhybrid/.mim/model-index.yml'}
    assert own | configs | others <= set(names)
    pages = {f'mmhybrid/.mim/{p.relative_to(ROOT)}' for p in ROOT.glob('configs/**/README.md')}
    assert len(pages) > 10 and pages <= set(names)
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert {f'mmhybrid/.mim/{path}' for path in index['Import']} <= set(names)
    assert {Path(name).name for name in names} >= {'LICENSE', 'NOTICE'}
    top = {Path(name).parts[0] for name in names}
    assert top == {'mmhybrid', 'mmhybrid.pth', f'mmhybrid-{mmhybrid.__version__}.dist-info'}
    assert not [name for name in names if name.endswith('.pyc')]
    (metadata,) = (name for name in names if name.endswith('/METADATA'))
    metadata = zipfile.ZipFile(wheel).read(metadata).decode()
    # Alone it replaces nothing in the environment it comes to.
    required = [line for line in metadata.splitlines() if line.startswith('Requires-Dist')]
    assert required and all('extra ==' in line for line in required)
    assert "Requires-Dist: onedl-mmcv==2.3.6; extra == 'onedl'" in metadata.replace('"', "'")
    for extra in ('onedl', 'openmmlab', 'export', 'docs', 'tests'):
        assert f'Provides-Extra: {extra}\n' in metadata


def test_configs_are_found_in_an_installed_package(installed):
    python, elsewhere = installed
    (elsewhere / 'by_path.py').write_text(
        "_base_ = __import__('mmhybrid').config_path('maskrcnn_vitcomer_b.py')\n"
        'train_dataloader = dict(batch_size=7)\n'
    )
    (elsewhere / 'by_scope.py').write_text(
        "_base_ = ['mmhybrid::maskrcnn_vitcomer_b.py']\ntrain_dataloader = dict(batch_size=7)\n"
    )
    program = """
import mmhybrid
from mmengine.config import Config
assert '.mim' in mmhybrid.config_path('maskrcnn_vitcomer_b')
assert 'maskrcnn_vitcomer_b' in mmhybrid.list_configs('maskrcnn_vitcomer_*')
by_path = Config.fromfile('by_path.py')
from mmhybrid.config_files import enable_scope
enable_scope()
by_scope = Config.fromfile('by_scope.py')
assert by_path.to_dict() == by_scope.to_dict()
assert by_path.train_dataloader.batch_size == 7
assert by_path.model.backbone.type == 'mmhybrid.ViTCoMer', by_path.model.backbone
print(mmhybrid.__file__)
"""
    where = python('-c', program).split()[-1]
    assert not Path(where).is_relative_to(ROOT)


def test_commands_of_an_installed_package_take_the_scope(installed):
    python, elsewhere = installed
    (elsewhere / 'mine.py').write_text("_base_ = 'mmhybrid::upernet_cmt_ti.py'\n")
    program = """
from argparse import Namespace
from mmhybrid.cli.config import load_config
for name in ('mine.py', 'configs/cmt/upernet_cmt_ti.py', 'upernet_cmt_ti'):
    cfg = load_config(Namespace(config=name, work_dir=None, cfg_options={}))
    print(cfg.model.backbone.type)
"""
    assert python('-c', program).split()[-3:] == ['mmhybrid.CMT'] * 3


def test_exports_are_tested_with_the_versions_of_the_extra():
    assert set(requirements(ROOT / 'requirements/export.txt')) <= set(
        requirements(ROOT / 'requirements/tests.txt')
    )


def test_unknown_config():
    with pytest.raises(FileNotFoundError, match='did you mean maskrcnn_vitcomer_b'):
        mmhybrid.config_path('mask_rcnn_vitcomer_b.py')
    assert mmhybrid.list_configs('no*such') == []
    with pytest.raises(FileNotFoundError, match='is now configs/cmt/retinanet_cmt_s.py'):
        mmhybrid.config_path('configs/retinanet_cmt_s.py')


@pytest.mark.parametrize('kind', ['wheel', 'editable'])
def test_whoever_imports_mmcv_finds_the_operators(kind, checkout, wheel, tmp_path):
    """In a fresh environment, without `import mmhybrid` first."""
    venv.create(tmp_path / 'venv', with_pip=False, symlinks=True)
    (site,) = tmp_path.glob('venv/lib/python3*/site-packages')
    (site / 'libraries.pth').write_text(sysconfig.get_path('purelib'))  # torch, setuptools
    mmcv = tmp_path / 'path' / 'mmcv'
    mmcv.mkdir(parents=True)
    (mmcv / '__init__.py').touch()
    source = tmp_path / 'source'
    shutil.copytree(checkout, source)
    python = tmp_path / 'venv' / 'bin' / 'python'
    pip = ('-m', 'pip', '-q', '--disable-pip-version-check', '--python', python)
    options = ('--no-index', '--no-deps', '--no-build-isolation')
    what = [wheel] if kind == 'wheel' else ['-e', source]
    run(*pip, 'install', *options, *what, cwd=tmp_path, PYTHONPATH='')

    def found(*flags):
        code = f'import sys; sys.path.insert(0, {str(mmcv.parent)!r})\n'
        code += 'import mmcv._ext\nprint(mmcv._ext.__name__, bool(mmcv._ext.__spec__))'
        command = [python, *flags, '-c', code]
        return subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True)

    for flags in ((), ('-I',)):
        done = found(*flags)
        assert (done.stdout, done.stderr) == ('mmhybrid.ops.ext True\n', '')
    (mmcv / '_ext.py').touch()  # in the place of a compiled one
    assert found().stdout == 'mmcv._ext True\n'
    (mmcv / '_ext.py').unlink()
    if kind == 'editable':  # moved away: other programs notice nothing
        source.rename(tmp_path / 'elsewhere')
        done = subprocess.run([python, '-c', 'import json'], capture_output=True, text=True, env={})
        assert (done.returncode, done.stderr) == (0, '')
        assert "No module named 'mmcv._ext'" in found().stderr
    run(*pip, 'uninstall', '-y', 'mmhybrid', cwd=tmp_path, PYTHONPATH='')
    assert {path.name for path in site.iterdir()} <= {'libraries.pth', '__pycache__'}
    assert "No module named 'mmcv._ext'" in found().stderr


def test_the_finder_answers_one_name_and_stands_once():
    code = """
import sys, importlib, mmhybrid
finders = [it for it in sys.meta_path if getattr(it, '__name__', '') == 'OperatorFinder']
from mmhybrid.ops import finder
importlib.reload(finder)
assert sys.meta_path.count(finders[0]) == len(finders) == 1, sys.meta_path
assert finders[0].find_spec('mmcv._ext').name == 'mmcv._ext'
assert finders[0].find_spec('mmcv.ops') is finders[0].find_spec('_ext') is None
assert 'torch' not in sys.modules
"""
    run('-c', code, cwd=ROOT)
