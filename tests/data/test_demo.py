import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmhybrid.data import demo, shapes
from mmhybrid.data.demo import CLASSES, draw_demo, draw_scene, read_record

SMALL = dict(train=3, val=2, crops=4, size=(96, 80), progress=lambda line: None)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp('data') / 'demo'
    assert draw_demo(path, **SMALL)
    return path


def decode(segmentation):
    """COCO run lengths to a mask, (H, W) bool."""
    counts = segmentation['counts']
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(segmentation['size'], order='F')


def test_boxes_masks_and_class_maps_agree(root):
    for split, count in (('train', 3), ('val', 2)):
        coco = json.loads((root / f'annotations/instances_{split}.json').read_text())
        assert [c['name'] for c in coco['categories']] == list(CLASSES)
        assert len(coco['images']) == count
        for image in coco['images']:
            pixels = cv2.imread(str(root / 'images' / split / image['file_name']))
            assert pixels.shape == (80, 96, 3) == (image['height'], image['width'], 3)
            name = Path(image['file_name']).stem + '.png'
            class_map = cv2.imread(str(root / 'annotations' / split / name), cv2.IMREAD_UNCHANGED)
            drawn = np.zeros((80, 96), np.uint8)
            for one in coco['annotations']:
                if one['image_id'] != image['id']:
                    continue
                mask = decode(one['segmentation'])
                rows, columns = np.nonzero(mask)
                x, y, width, height = one['bbox']
                assert one['area'] == mask.sum() >= demo.MIN_AREA
                assert (columns.min(), rows.min()) == (x, y)
                assert (columns.max() + 1 - x, rows.max() + 1 - y) == (width, height)
                assert not drawn[mask].any()  # visible parts do not overlap
                drawn[mask] = one['category_id']
            np.testing.assert_array_equal(drawn, class_map)


def test_crops_of_every_class(root):
    for name in CLASSES:
        assert len(list((root / 'crops/train' / name).glob('*.jpg'))) == 4
        assert len(list((root / 'crops/val' / name).glob('*.jpg'))) == 1


def test_same_seed_same_images(root, tmp_path):
    draw_demo(tmp_path / 'again', **SMALL)
    assert read_record(tmp_path / 'again') == read_record(root)
    draw_demo(tmp_path / 'other', **SMALL, seed=1)
    assert read_record(tmp_path / 'other')['content'] != read_record(root)['content']


def test_images_of_a_small_set_begin_a_larger_one(root, tmp_path):
    draw_demo(tmp_path / 'more', **(SMALL | dict(train=4)))
    for name in ('000000.jpg', '000002.jpg'):
        path = f'images/train/{name}'
        assert (tmp_path / 'more' / path).read_bytes() == (root / path).read_bytes()


def test_redrawn_only_when_something_changed(root, tmp_path, monkeypatch):
    out = tmp_path / 'demo'
    assert draw_demo(out, **SMALL)
    assert not draw_demo(out, **SMALL)
    assert draw_demo(out, **(SMALL | dict(val=3)))
    assert len(list((out / 'images/val').iterdir())) == 3
    monkeypatch.setattr(demo, '_digest', lambda paths: 'other code')
    assert draw_demo(out, **(SMALL | dict(val=3)))
    assert not list(tmp_path.glob('*.part'))


def test_interrupted_drawing_leaves_the_old_set(tmp_path, monkeypatch):
    out = tmp_path / 'demo'
    draw_demo(out, **SMALL)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, '_draw_crops', interrupted)
    with pytest.raises(KeyboardInterrupt):
        draw_demo(out, **SMALL, seed=1)
    assert read_record(out)['arguments']['seed'] == 0
    assert len(list((out / 'images/train').iterdir())) == 3


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / 'thesis.tex').write_text('years of work')
    with pytest.raises(FileExistsError, match='not a demo data set'):
        draw_demo(tmp_path, **SMALL)
    assert (tmp_path / 'thesis.tex').exists()


@pytest.mark.parametrize('wrong', [dict(train=0), dict(val=0), dict(size=(32, 96)), dict(seed=-1)])
def test_arguments_out_of_range(tmp_path, wrong):
    with pytest.raises(ValueError, match='expected at least'):
        draw_demo(tmp_path / 'demo', **(SMALL | wrong))
    assert not (tmp_path / 'demo').exists()


def test_colour_does_not_tell_the_class():
    """Mean colours of the classes are alike, far less apart than colours within a class."""
    means = {label: [] for label in range(len(CLASSES))}
    for index in range(60):
        image, masks, labels = draw_scene(np.random.default_rng((7, index)), (128, 96))
        for mask, label in zip(masks, labels, strict=True):
            means[label].append(image[mask].mean(0))
    centers = np.array([np.mean(colors, axis=0) for colors in means.values()])
    within = np.mean([np.std(colors, axis=0) for colors in means.values()])
    assert np.std(centers, axis=0).max() < 0.5 * within


def test_outlines_fill_the_unit_disc():
    for name, outline in shapes.OUTLINES.items():
        radius = max(np.linalg.norm(c, axis=1).max() for c in outline(np.random.default_rng(0)))
        assert 0.9 < radius < 1.2, name


def test_command(tmp_path, capsys):
    demo.main([str(tmp_path / 'out'), '--train', '1', '--val', '1', '--size', '64', '64'])
    assert 'out: drawn' in capsys.readouterr().out
    with pytest.raises(SystemExit):
        demo.main([str(tmp_path / 'out'), '--train', '0'])
