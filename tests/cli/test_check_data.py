import json
import shutil

import pytest
from PIL import Image

from mmhybrid import config_path
from mmhybrid.testing.folders import draw_folder

from .conftest import CONFIGS


@pytest.fixture
def check(tool):
    return tool('check_data').main


def test_a_good_folder_and_a_bad_one(check, data, tmp_path, capsys):
    root = shutil.copytree(data, tmp_path / 'demo')
    assert check([str(root)]) == 0
    out = capsys.readouterr().out
    assert 'no classes.txt' not in out and 'the same names in both' not in out
    (root / 'classes.txt').unlink()
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
    out = capsys.readouterr().out
    assert '4 images, of which 1 were read, 6144 pixels, 96x64' in out
    assert 'without pixels' not in out  # those of the others are not known
    assert check([config, *options, 'classes=2']) == 1
    assert 'which is no class' in capsys.readouterr().out


def test_what_stops_an_evaluation_alone(check, data, tmp_path, capsys):
    root = shutil.copytree(data, tmp_path / 'demo')
    for split in ('train', 'val'):
        file = root / f'annotations/instances_{split}.json'
        content = json.loads(file.read_text())
        for row in content['annotations']:
            del row['iscrowd']
            row['id'] -= 1
        file.write_text(json.dumps(content))
    config = str(CONFIGS / 'retinanet_cmt_ti_custom.py')
    for arguments in ([str(root)], [config, '--cfg-options', f'data_root={root}']):
        assert check(arguments) == 1
        train, val = capsys.readouterr().out.split('\nval: ', 1)
        assert 'error' not in train and 'warning: annotations with "id" 0' in train
        assert 'error: annotations with "id" 0' in val and '"iscrowd"' in val


def test_text_of_another_encoding(check, data, tmp_path, capsys):
    root = shutil.copytree(data, tmp_path / 'demo')
    (root / 'classes.txt').write_bytes('chaussée'.encode('latin-1'))
    assert check([str(root)]) == 1
    out = capsys.readouterr().out
    assert 'classes.txt is not in UTF-8' in out and 'no classes.txt' not in out and '1 error' in out
    file = root / 'annotations/instances_train.json'
    file.write_bytes(file.read_bytes().replace(b'"star"', b'"\xe9toile"'))
    config = str(CONFIGS / 'retinanet_cmt_ti_custom.py')
    assert check([config, '--cfg-options', f'data_root={root}']) == 1
    assert 'instances_train.json is not in UTF-8' in capsys.readouterr().out


def test_categories_named_by_numbers(check, data, tmp_path, capsys):
    root = shutil.copytree(data, tmp_path / 'demo')
    file = root / 'annotations/instances_train.json'
    file.write_text(file.read_text().replace('"star"', '5'))
    config = str(CONFIGS / 'retinanet_cmt_ti_custom.py')
    for arguments in ([str(root)], [config, '--cfg-options', f'data_root={root}']):
        assert check(arguments) == 1
        assert 'that are no text: 5' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('name', 'layout', 'unit'),
    [
        ('retinanet_cmt_s_voc', 'voc', 'boxes'),
        ('upernet_vitcomer_s_cityscapes', 'cityscapes', 'pixels'),
        ('upernet_vitcomer_b_cocostuff', 'cocostuff', 'pixels'),
    ],
)
def test_public_layouts(check, name, layout, unit, tmp_path, capsys):
    draw_folder(layout, tmp_path / layout, train=1, val=1, size=(200, 160))
    config = config_path(name)
    assert check([config, '--cfg-options', f'data_root={tmp_path / layout}']) == 0
    out = capsys.readouterr().out
    assert 'train: ' in out and 'val: ' in out and unit in out


def test_a_split_folder_of_classes(check, tmp_path, capsys):
    for name in ('aster', 'rose'):
        (tmp_path / 'in/train' / name).mkdir(parents=True)
        for i in range(5):
            image = Image.new('RGB', (80, 64), (i, len(name), 0))
            image.save(tmp_path / 'in/train' / name / f'{i}.png')
    options = [f'data_root={tmp_path / "in"}', 'class_folder.val_fraction=0.2']
    config = str(CONFIGS / 'linear_cmt_ti_custom.py')
    work = ['--work-dir', str(tmp_path / 'work')]
    assert check([config, *work, '--cfg-options', *options]) == 0
    out = capsys.readouterr().out
    assert 'train: the images of' in out and '8 images' in out and '2 images' in out


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
