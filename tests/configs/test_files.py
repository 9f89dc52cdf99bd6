"""How the files of the configs lie, are named, and stand on each other."""

import ast
import re
import shutil
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

import mmhybrid
from mmhybrid import config_files
from tools._zoo import CONFIGS, FAMILIES, NAME, config_names

FILES = {
    path.stem: path for path in CONFIGS.rglob('*.py') if CONFIGS / '_base_' not in path.parents
}
DEEPEST = 3
FRONT = re.compile(r'maskrcnn_vitcomer_b|demo_\w+|\w+_custom')
COMMON = 2  # files of data sets in which the same may stand


@cache
def bases(path):
    """The files that a config names as its `_base_`."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '_base_':
            names = ast.literal_eval(node.value)
            names = [names] if isinstance(names, str) else names
            return [(path.parent / name).resolve() for name in names]
    return []


def chains(path):
    """Every way from a file to a root: lists of files."""
    found = bases(path)
    return [[path, *chain] for base in found for chain in chains(base)] if found else [[path]]


def test_every_name_is_there_once():
    names = Counter(path.name for path in FILES.values())
    assert len(FILES) >= 200 and set(names.values()) == {1}
    assert sorted(names) == config_names()
    assert mmhybrid.list_configs() == sorted(FILES)
    for name, path in FILES.items():
        assert mmhybrid.config_path(name) == str(path)


def test_a_name_in_two_folders_is_refused(monkeypatch, tmp_path):
    import tools._zoo as zoo

    monkeypatch.setattr(zoo, 'CONFIGS', tmp_path)
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'retinanet_cmt_s.py').touch()
    with pytest.raises(ValueError, match='retinanet_cmt_s.py: in several folders'):
        zoo.config_names()


def test_folders():
    """In front is what a user begins with; each folder is of one class of backbones.

    The study of small data compares classes of backbones, on a user's own data.
    """
    front = {path.stem for path in FILES.values() if path.parent == CONFIGS}
    study = {path.stem for path in FILES.values() if path.parent.name == 'small_data'}
    assert study and all(name.endswith('_small_custom') for name in study)
    assert front | study == {name for name in FILES if FRONT.fullmatch(name)}
    classes = defaultdict(set)
    for name in set(FILES) - front - study:
        family = NAME.fullmatch(f'{name}.py')['family']
        classes[FILES[name].parent].add(FAMILIES[family])
    assert len(classes) >= 12
    assert all(len(found) == 1 for found in classes.values()), classes
    folders = {path.parent.relative_to(CONFIGS) for path in FILES.values()}
    assert {path.parts[0] for path in folders if len(path.parts) > 1} == {'experiments'}


def test_every_folder_has_its_pages():
    """Which tests/tools/test_make_metafiles.py compares with what is made of the configs."""
    for folder in {path.parent for path in FILES.values()}:
        text = (folder / 'README.md').read_text()
        for path in folder.glob('*.py'):
            assert f'[`{path.stem}`]({path.name})' in text, f'{folder.name}/README.md: {path.stem}'
        has_recipes = folder != CONFIGS and folder.name != 'small_data'
        assert (folder / 'metafile.yml').is_file() == has_recipes


@pytest.mark.parametrize('name', FILES)
def test_few_files_of_one_family(name):
    family = FAMILIES[NAME.fullmatch(f'{name}.py')['family']]
    for chain in chains(FILES[name]):
        shown = ' < '.join(path.name for path in chain)
        assert len(chain) <= DEEPEST, f'{len(chain)} files, expected at most {DEEPEST}: {shown}'
        for path in chain:
            if CONFIGS / '_base_' not in path.parents:
                other = NAME.fullmatch(path.name)['family']
                assert FAMILIES[other] == family, f'stands on another family: {shown}'


def test_no_part_is_left_over():
    used = {path for config in FILES.values() for chain in chains(config) for path in chain}
    assert set(CONFIGS.rglob('*.py')) == used


def test_data_sets_share_what_they_have_in_common():
    """Pipelines and what holds other dicts; two roots that variants stand on may say the same."""
    places = defaultdict(set)
    files = sorted((CONFIGS / '_base_' / 'datasets').glob('*.py'))
    assert len(files) >= 11
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            inner = [child for child in ast.walk(node) if isinstance(child, ast.Call)]
            if isinstance(node, (ast.Call, ast.List)) and len(inner) - (node in inner) >= 1:
                places[ast.unparse(node)].add(path.name)
    often = {text: names for text, names in places.items() if len(names) > COMMON}
    assert not often
    assert max(len(names) for names in places.values()) == COMMON


def test_the_old_place_of_a_config_names_the_new_one():
    for name in ('configs/retinanet_cmt_s.py', str(CONFIGS / 'retinanet_cmt_s.py')):
        with pytest.raises(FileNotFoundError, match='is now configs/cmt/retinanet_cmt_s.py'):
            mmhybrid.config_path(name)
    moved = [name for name, path in FILES.items() if path.parent != CONFIGS]
    assert len(moved) >= 200
    for name in moved:
        place = re.escape(str(FILES[name].relative_to(CONFIGS.parent)))
        with pytest.raises(FileNotFoundError, match=f'^configs/{name}.py is now {place}; its name'):
            mmhybrid.config_path(f'configs/{name}.py')


@pytest.mark.parametrize(
    'name',
    [
        *('upernet_cmt_ti', 'upernet_cmt_ti.py', 'cmt/upernet_cmt_ti.py'),
        *(
            'configs/cmt/upernet_cmt_ti.py',
            'mmhybrid::upernet_cmt_ti',
            'mmhybrid::upernet_cmt_ti.py',
        ),
    ],
)
def test_names_that_find_a_config(name):
    assert mmhybrid.config_path(name) == str(CONFIGS / 'cmt/upernet_cmt_ti.py')


@pytest.mark.parametrize('name', ['upernet_cmt_tl', 'vit/upernet_cmt_ti.py', 'resnet200'])
def test_names_that_find_none(name):
    with pytest.raises(
        FileNotFoundError, match=f"no config '{name}'(; did you mean upernet_cmt_t)?"
    ):
        mmhybrid.config_path(name)


def test_a_base_by_its_name(tmp_path):
    from mmengine.config import Config

    config_files.enable_scope()
    part = mmhybrid.config_path('_base_/mmdet_runtime.py')
    (tmp_path / 'part.py').write_text("_base_ = 'mmhybrid::_base_/mmdet_runtime.py'\n")
    runtime = Config.fromfile(tmp_path / 'part.py')
    assert runtime.default_scope == 'mmdet' and part == str(CONFIGS / '_base_/mmdet_runtime.py')
    want = Config.fromfile(FILES['upernet_cmt_ti']).to_dict()
    for name in ('mmhybrid::upernet_cmt_ti', 'mmhybrid::upernet_cmt_ti.py'):
        (tmp_path / 'mine.py').write_text(f"_base_ = '{name}'\n")
        assert Config.fromfile(tmp_path / 'mine.py').to_dict() == want
    (tmp_path / 'mine.py').write_text("_base_ = 'mmhybrid::upernet_cmt_tl'\n")
    with pytest.raises(FileNotFoundError, match='did you mean upernet_cmt_ti'):
        Config.fromfile(tmp_path / 'mine.py')


def test_without_configs(monkeypatch, tmp_path):
    monkeypatch.setattr(config_files, 'FOLDERS', (tmp_path / 'a', tmp_path / 'b'))
    with pytest.raises(FileNotFoundError, match='came without configs'):
        mmhybrid.list_configs()
    shutil.copytree(CONFIGS / '_base_', tmp_path / 'b' / '_base_')
    assert mmhybrid.list_configs() == []
    assert Path(config_files.config_folder()) == tmp_path / 'b'
