import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmhybrid.data.coco import DataError
from mmhybrid.data.fit import fit_to_folder
from mmhybrid.data.split import choose_val
from tests.data.test_fit import PARTS, class_config, coco_config, mask_config

NAMES = [f'{i}.png' for i in range(10)]


def test_the_choice_follows_from_names_and_seed():
    chosen = choose_val(NAMES, 0.3)
    assert len(chosen) == 3 and chosen < set(NAMES)
    assert choose_val(NAMES[::-1], 0.3) == chosen != choose_val(NAMES, 0.3, 1)
    assert len(choose_val([*NAMES, 'new.png'], 0.3) & chosen) >= 2
    assert len(choose_val(NAMES, 0.01)) == 1 and len(choose_val(NAMES, 0.99)) == 9
    for fraction in (0, 1, 0.0, 1.0, -0.2, True, '0.2', None):
        with pytest.raises(ValueError, match='expected a number between 0 and 1'):
            choose_val(NAMES, fraction)
    with pytest.raises(ValueError, match='cannot be split'):
        choose_val(['a'], 0.5)


def write_coco(root):
    images = [dict(id=i + 1, file_name=name) for i, name in enumerate(NAMES)]
    rows = [dict(id=i + 1, image_id=i // 2 + 1) for i in range(20)]
    content = dict(images=images, annotations=rows, categories=[dict(id=1, name='car')])
    (root / 'a.json').write_text(json.dumps(content))


def coco(root, fraction=0.2, seed=0, work='work'):
    folder = dict(
        train_ann='a.json', train_img='t', val_ann='b.json', val_img='v', val_fraction=fraction,
        val_seed=seed,
    )  # fmt: skip
    return coco_config(root, coco_folder=folder, work_dir=str(root / work))


def test_coco_is_split_and_stays_so(tmp_path, capsys):
    write_coco(tmp_path)
    with pytest.raises(DataError, match='coco_folder.val_fraction=0.2'):
        fit_to_folder(coco(tmp_path, fraction=None))
    (tmp_path / 'b.json').write_text('{}')
    with pytest.raises(
        DataError, match=r'b.json is there: .* let that part alone with .*val_ann=None'
    ):
        fit_to_folder(coco(tmp_path))
    cfg = coco(tmp_path)
    cfg.coco_folder.val_ann = None
    fit_to_folder(cfg)
    (tmp_path / 'b.json').unlink()
    said = capsys.readouterr().out
    assert '2 of 10 images validate' in said and 'images.json lists them' in said
    datasets = [cfg[f'{split}_dataloader'].dataset for split in ('train', 'val')]
    train, val = (json.loads(Path(dataset.ann_file).read_text()) for dataset in datasets)
    assert [dataset.data_prefix.img for dataset in datasets] == ['t', 't']
    assert cfg.val_evaluator.ann_file == datasets[1].ann_file
    assert (len(train['images']), len(val['images'])) == (8, 2)
    assert {row['image_id'] for row in val['annotations']} == {row['id'] for row in val['images']}
    assert len(train['annotations']) == 16 and len(val['annotations']) == 4
    # Other images: those that validated still do, the new one is trained on.
    content = json.loads((tmp_path / 'a.json').read_text())
    content['images'].append(dict(id=99, file_name='new.png'))
    (tmp_path / 'a.json').write_text(json.dumps(content))
    fit_to_folder(coco(tmp_path))
    assert json.loads(Path(datasets[1].ann_file).read_text())['images'] == val['images']
    assert len(json.loads(Path(datasets[0].ann_file).read_text())['images']) == 9
    assert capsys.readouterr().out == ''
    # One that validated is gone, and then both.
    for left in (1, 0):
        gone = val['images'].pop()['file_name']
        content['images'] = [row for row in content['images'] if row['file_name'] != gone]
        (tmp_path / 'a.json').write_text(json.dumps(content))
        if left:
            fit_to_folder(coco(tmp_path))
            assert json.loads(Path(datasets[1].ann_file).read_text())['images'] == val['images']
    with pytest.raises(DataError, match='none of the images that are there'):
        fit_to_folder(coco(tmp_path))
    with pytest.raises(DataError, match='was made with 0.2 and 0'):
        fit_to_folder(coco(tmp_path, seed=1))
    fit_to_folder(coco(tmp_path, seed=1, work='other'))
    (tmp_path / 'b.json').write_text('{}')
    with pytest.raises(DataError, match='b.json is there: leave it out'):
        fit_to_folder(coco(tmp_path))


def test_masks_are_split(tmp_path):
    for folder in ('images/train', 'masks/train'):
        (tmp_path / folder).mkdir(parents=True)
        for name in NAMES:
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / folder / name)
    (tmp_path / 'classes.txt').write_text('a\nb\n')
    cfg = mask_config(tmp_path, mask_folder=dict(PARTS, val_fraction=0.2, val_seed=0))
    cfg.work_dir = str(tmp_path / 'work')
    fit_to_folder(cfg)
    train, val = (
        Path(cfg[f'{split}_dataloader'].dataset.ann_file).read_text().split()
        for split in ('train', 'val')
    )
    assert (len(train), len(val)) == (8, 2)
    assert sorted(train + val) == sorted(name[:-4] for name in NAMES)
    assert cfg.val_dataloader.dataset.data_prefix.seg_map_path == 'masks/train'


def test_a_folder_a_class_is_split(tmp_path):
    for name in ('aster', 'rose'):
        (tmp_path / 'train' / name).mkdir(parents=True)
        for file in NAMES:
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / 'train' / name / file)
    cfg = class_config(tmp_path)
    cfg.class_folder = dict(train='train', val='val', val_fraction=0.25, val_seed=0)
    cfg.work_dir = str(tmp_path / 'work')
    fit_to_folder(cfg)
    train, val = (
        Path(cfg[f'{split}_dataloader'].dataset.ann_file).read_text().splitlines()
        for split in ('train', 'val')
    )
    assert (len(train), len(val)) == (15, 5)
    assert sorted(train + val) == sorted(
        f'{name}/{file} {i}' for i, name in enumerate(('aster', 'rose')) for file in NAMES
    )


def test_a_training_says_what_the_folder_is(tmp_path):
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels/a.txt').write_text('0 0.5 0.5 0.1 0.1\n')
    with pytest.raises(DataError, match='(?s)not found.*looks like YOLO.*mmhybrid data convert'):
        fit_to_folder(coco(tmp_path, fraction=None))
