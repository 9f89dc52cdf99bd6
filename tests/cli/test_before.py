"""What would train on nothing, or on something else, is said before the first step."""

import json
import shutil

import pytest
from PIL import Image

from mmhybrid.cli.arguments import argument_parser
from mmhybrid.cli.config import load_config
from mmhybrid.cli.datasets import check_data

from .conftest import CONFIGS


@pytest.fixture
def look(tool, capsys):
    """A function of a config and options: its training and validation data are looked at.

    It returns what is printed.
    """

    def run(name, *options, splits=('train', 'val')):
        arguments = [str(CONFIGS / f'{name}.py'), '--cfg-options', *options]
        cfg = load_config(argument_parser('').parse_args(arguments))
        capsys.readouterr()
        check_data(cfg, splits)
        lines = capsys.readouterr().out.splitlines()
        return '\n'.join(line for line in lines if 'Could not import' not in line)

    return run


@pytest.fixture
def root(data, tmp_path):
    """A copy of the demo folder, to be spoilt."""
    return shutil.copytree(data, tmp_path / 'demo')


def change(root, split, do):
    """Apply ``do`` to the annotations of a split; return how many there are."""
    file = root / f'annotations/instances_{split}.json'
    content = json.loads(file.read_text())
    for number, row in enumerate(content['annotations']):
        do(number, row)
    file.write_text(json.dumps(content))
    return len(content['annotations'])


# ---------------------------------------------------------------------------- what is left out


@pytest.mark.parametrize('name', ['retinanet_cmt_ti_custom', 'maskrcnn_cmt_ti_scratch_custom'])
def test_objects_that_no_model_gets(look, root, name):
    assert look(name, f'data_root={root}') == ''
    count = change(root, 'train', lambda i, row: row.update(iscrowd=1))
    with pytest.raises(ValueError, match=f'train: none of {count} boxes is trained on: {count} '
                                         'marked "iscrowd": 1; write'):  # fmt: skip
        look(name, f'data_root={root}')
    change(root, 'train', lambda i, row: row.update(iscrowd=0, ignore=int(i > 0)))
    out = look(name, f'data_root={root}')
    assert f'train: {count - 1} of {count} boxes are not trained on: ' in out
    change(root, 'train', lambda i, row: row.update(ignore=0))
    assert look(name, f'data_root={root}') == ''
    count = change(root, 'val', lambda i, row: row.update(iscrowd=1))
    with pytest.raises(ValueError, match=f'val: none of {count} boxes is evaluated'):
        look(name, f'data_root={root}')


def test_boxes_between_0_and_1(look, root):
    change(root, 'train', lambda i, row: row.update(bbox=[0.1, 0.2, 0.3, 0.4]))
    with pytest.raises(ValueError, match='as shares of the sides of their image: write pixels'):
        look('retinanet_cmt_ti_custom', f'data_root={root}')


def draw_classes(root, suffixes):
    for split in ('train', 'val'):
        for name in ('aster', 'rose'):
            (root / split / name).mkdir(parents=True)
            for i, suffix in enumerate(suffixes):
                image = Image.new('RGB', (40, 40), (30 * i, 40 * len(name), 60 * len(split) - 100))
                image.save(root / split / name / f'{i}{suffix}')


def test_every_kind_of_image_is_trained_on(look, tool, tmp_path, capsys):
    from mmengine.registry import DATASETS, init_default_scope

    suffixes = ('.png', '.webp', '.tiff', '.JPEG', '.gif', '.jfif', '.ppm', '.jp2')
    draw_classes(tmp_path / 'in', suffixes)
    option = f'data_root={tmp_path / "in"}'
    assert look('linear_cmt_ti_custom', option) == ''
    arguments = [str(CONFIGS / 'linear_cmt_ti_custom.py'), '--cfg-options', option]
    cfg = load_config(argument_parser('').parse_args(arguments))
    init_default_scope('mmpretrain')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert len(dataset) == 16
    for index in range(16):  # OpenCV reads each
        assert dataset[index]['inputs'].shape == (3, 224, 224)
    assert tool('check_data').main(arguments) == 0
    assert '16 images' in capsys.readouterr().out
    # A config of the host's own data set takes fewer.
    out = look('linear_cmt_ti_custom', option, 'train_dataloader.dataset.extensions=.png,.ppm')
    assert 'train: 12 of 16 images are not used' in out
    with pytest.raises(ValueError, match='train: none of 16 images ends as the data set wants'):
        look('linear_cmt_ti_custom', option, 'train_dataloader.dataset.extensions=[.x]')
