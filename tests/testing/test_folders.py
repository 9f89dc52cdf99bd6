import hashlib
import json

import cv2
import pytest
from mmengine.config import Config
from pycocotools import mask as run_lengths

from mmhybrid import config_path
from mmhybrid.testing import folders
from mmhybrid.testing.folders import LAYOUTS, draw_folder


def digest(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob('*')
        if path.is_file()
    }


@pytest.mark.parametrize('name', sorted(set(LAYOUTS) - {'imagenet'}))
def test_same_seed_same_folder(name, tmp_path):
    small = dict(train=1, val=1, size=(80, 64))
    for folder, seed in (('one', 0), ('same', 0), ('other', 1)):
        draw_folder(name, tmp_path / folder, **small, seed=seed)
    one, same, other = (digest(tmp_path / folder) for folder in ('one', 'same', 'other'))
    assert one == same
    assert one.keys() == other.keys() and one != other
    images = [key for key in one if key.endswith('.jpg') or 'leftImg8bit' in key]
    assert len({one[key] for key in images}) == len(images)  # no two splits share an image
    assert not list(tmp_path.glob('*.part'))


def test_outlines_boxes_and_areas_of_coco_agree(tmp_path):
    draw_folder('coco', tmp_path / 'coco', train=3)
    file = json.loads((tmp_path / 'coco/annotations/instances_train2017.json').read_text())
    assert len(file['categories']) == 80 and file['categories'][-1]['id'] == 90
    assert len(file['images']) == 3
    *things, crowd = file['annotations']
    assert crowd['iscrowd'] and len(things) >= 9
    for one in things:
        outline = run_lengths.merge(run_lengths.frPyObjects(one['segmentation'], 96, 128))
        assert run_lengths.area(outline) == pytest.approx(one['area'], rel=0.3)
        x, y, width, height = one['bbox']
        assert 0 <= x < x + width <= 128 and 0 <= y < y + height <= 96
        assert run_lengths.toBbox(outline).tolist() == pytest.approx(one['bbox'], abs=3)
    image = cv2.imread(str(tmp_path / 'coco/train2017/000000000001.jpg'))
    assert image.shape == (96, 128, 3)


def test_the_folder_is_made_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / 'notes.txt').write_text('years of work')
    with pytest.raises(FileExistsError, match='new or empty'):
        draw_folder('coco', tmp_path)
    with pytest.raises(ValueError, match="'koko' is no layout .* coco"):
        draw_folder('koko', tmp_path / 'a')
    for option in (dict(train=0), dict(size=(32, 64)), dict(seed=-1)):
        with pytest.raises(ValueError, match='expected at least'):
            draw_folder('coco', tmp_path / 'a', **option)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(folders, '_write_json', interrupted)
    with pytest.raises(KeyboardInterrupt):
        draw_folder('coco', tmp_path / 'a')
    assert not (tmp_path / 'a').exists()


def test_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(folders, 'LAYOUTS', dict(ade20k=folders.draw_ade20k))
    monkeypatch.setattr(folders, 'PLACES', dict(ade20k='ade/ADEChallengeData2016'))
    folders.main(['all', str(tmp_path), '--train', '1', '--val', '1'])
    assert 'ade20k: ' in capsys.readouterr().out
    # What is drawn below a folder lies where the configs look below $MMHYBRID_DATA.
    monkeypatch.setenv('MMHYBRID_DATA', str(tmp_path))
    cfg = Config.fromfile(config_path('upernet_vitcomer_t'))
    assert cfg.data_root == cfg.val_dataloader.dataset.data_root
    assert len(list(tmp_path.glob('ade/*/images/training/*.jpg'))) == 1
    assert cfg.data_root == str(next(tmp_path.glob('ade/*')))
    with pytest.raises(SystemExit):
        folders.main(['ade20k', str(tmp_path)])
