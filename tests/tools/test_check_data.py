import json
import shutil

import pytest

from mmhybrid.testing.folders import draw_folder

from .conftest import CONFIGS


@pytest.fixture
def check(tool):
    return tool('check_data').main


def test_a_good_folder_and_a_bad_one(check, data, tmp_path, capsys):
    root = shutil.copytree(data, tmp_path / 'demo')
    assert check([str(root)]) == 0
    out = capsys.readouterr().out
    assert f'train: {root}/annotations/instances_train.json' in out
    assert f'val: images in {root}/images/val, masks in {root}/annotations/val' in out
    assert 'no errors' in out and '96x64' in out and 'star' in out
    assert out.count('warning: no classes.txt') == 1
    (root / 'classes.txt').write_text('\n'.join('abcdefg'))
    (root / 'images/train/000001.jpg').unlink()
    assert check([str(root)]) == 1
    out = capsys.readouterr().out
    assert 'error: missing image files: ' in out and '1 error, ' in out
    assert 'no classes.txt' not in out


def test_a_config(check, data, tmp_path, capsys):
    config = str(CONFIGS / 'maskrcnn_vitcomer_t_custom.py')
    options = ['--cfg-options', f'data_root={data}']
    assert check([config, *options, 'classes=star,moon']) == 0
    out = capsys.readouterr().out
    assert 'moon' in out and 'gear' not in out
    # What a training would refuse at once is said, and the rest of the folder is checked.
    assert check([config, *options, 'classes=star,sun']) == 1
    out = capsys.readouterr().out
    assert 'not in the file: sun' in out and 'gear' in out
    config = str(CONFIGS / 'upernet_vitcomer_t_custom.py')
    assert check([config, *options, 'classes=7', '--sample', '1']) == 0
    assert check([config, *options, 'classes=2']) == 1
    assert 'which is no class' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('name', 'layout', 'unit'),
    [
        ('retinanet_cmt_s_voc', 'voc', 'boxes'),
        ('upernet_vitcomer_s_cityscapes', 'cityscapes', 'pixels'),
        ('upernet_vitcomer_b_cocostuff', 'cocostuff', 'pixels'),
    ],
)
def test_public_layouts(check, name, layout, unit, tmp_path, capsys):
    draw_folder(layout, tmp_path / layout, train=1, val=1, size=(80, 64))
    config = str(CONFIGS / f'{name}.py')
    assert check([config, '--cfg-options', f'data_root={tmp_path / layout}']) == 0
    out = capsys.readouterr().out
    assert 'train: ' in out and 'val: ' in out and unit in out


def test_what_cannot_be_checked(check, tmp_path):
    with pytest.raises(ValueError, match='not found: nowhere'):
        check(['nowhere'])
    (tmp_path / 'notes').mkdir()
    with pytest.raises(ValueError, match='holds nothing, .* CONFIG'):
        check([str(tmp_path / 'notes')])
    for arguments in (['--sample', '0'], ['--cfg-options', 'data_root=x']):
        with pytest.raises(SystemExit):
            check([str(tmp_path / 'notes'), *arguments])


def test_hostile_annotations_end_in_a_report(check, tmp_path, capsys):
    (tmp_path / 'annotations').mkdir()
    file = tmp_path / 'annotations/instances_train.json'
    for content in (
        dict(images=[dict(id=1, file_name='../../../etc/passwd', width=10**9, height=10**9)]),
        dict(images=[[]], annotations=[dict(image_id={}, category_id=[])], categories=[None]),
    ):
        file.write_text(json.dumps(content))
        assert check([str(tmp_path)]) == 1
        assert 'root:' not in capsys.readouterr().out
