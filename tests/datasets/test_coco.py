import json

import pytest
from mmengine.config import Config

from mmhybrid.datasets.coco import DataError, check_class_names, fit_to_folder, read_categories


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / 'annotations.json'

    def write(*names, text=None):
        content = dict(
            info=dict(description='"categories": [of things]'),
            categories=[dict(id=i, name=name) for i, name in enumerate(names, 1)],
            images=[],
            annotations=[],
        )
        path.write_text(json.dumps(content, indent=1) if text is None else text)
        return path

    return write


def test_categories_are_read_in_the_order_of_the_file(annotations):
    assert read_categories(annotations('car', 'bus', 'tram')) == ['car', 'bus', 'tram']


def test_files_that_are_no_annotations(annotations, tmp_path):
    with pytest.raises(DataError, match='not found: .*nowhere.json'):
        read_categories(tmp_path / 'nowhere.json')
    with pytest.raises(DataError, match='not a complete JSON object'):
        read_categories(annotations(text='{"categories": [{"name": "car"}], "images": ['))
    with pytest.raises(DataError, match='no "categories"'):
        read_categories(annotations(text='{"images": []}'))


def test_class_names_that_do_not_match_are_listed(annotations):
    path = annotations('car', 'bus')
    check_class_names(['car', 'bus'], path)
    check_class_names(['bus'], path)
    with pytest.raises(DataError, match='(?s)not in the file: Car, tram.*config: Car.*file: *car'):
        check_class_names(['Car', 'bus', 'tram'], path)
    with pytest.raises(DataError, match='another order'):
        check_class_names(['bus', 'car'], path)


def config(root, **options):
    loader = dict(dataset=dict(type='CocoDataset', pipeline=[dict(type='Resize')]))
    return Config(
        dict(
            data_root=str(root),
            classes=None,
            coco_folder=dict(train_ann='a.json', train_img='t', val_ann='b.json', val_img='v'),
            image_size=(64, 48),
            max_iters=30,
            weights=None,
            model=dict(
                backbone=dict(), roi_head=dict(bbox_head=[dict(num_classes=80)] * 2, mask_head={})
            ),
            train_dataloader=loader,
            val_dataloader=loader,
            test_dataloader=loader,
            val_evaluator=dict(),
            test_evaluator=dict(),
            train_cfg=dict(),
            param_scheduler=[dict(type='LinearLR', end=5), dict(type='CosineAnnealingLR')],
        )
        | options
    )


def write(root, train, val):
    for name, classes in (('a.json', train), ('b.json', val)):
        categories = [dict(id=i, name=name) for i, name in enumerate(classes)]
        (root / name).write_text(json.dumps(dict(categories=categories)))


def test_config_follows_the_folder(tmp_path):
    write(tmp_path, ['car', 'bus'], ['car', 'bus'])
    cfg = config(tmp_path)
    fit_to_folder(cfg)
    assert cfg.classes == ['car', 'bus']
    assert cfg.train_dataloader.dataset.ann_file == 'a.json'
    assert cfg.test_dataloader.dataset.data_prefix.img == 'v'
    assert cfg.val_dataloader.dataset.metainfo.classes == ['car', 'bus']
    assert cfg.val_evaluator.ann_file == str(tmp_path / 'b.json')
    assert [head.num_classes for head in cfg.model.roi_head.bbox_head] == [2, 2]
    assert cfg.train_dataloader.dataset.pipeline[0].scale == (64, 48)
    assert cfg.param_scheduler[1].end == cfg.param_scheduler[1].T_max == 30
    assert 'init_cfg' not in cfg.model.backbone
    assert 'coco_folder' not in cfg


def test_options_win(tmp_path):
    write(tmp_path, ['car', 'bus', 'tram'], ['car', 'bus', 'tram'])
    cfg = config(
        tmp_path, classes='tram,car', weights='vit.pth', train_cfg=dict(max_iters=7)
    )  # in the file's order below
    fit_to_folder(cfg)
    assert cfg.classes == ['car', 'tram']
    assert cfg.param_scheduler[1].end == 7
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='vit.pth')


def test_folders_that_do_not_fit(tmp_path):
    with pytest.raises(DataError, match='data root not found'):
        fit_to_folder(config(tmp_path / 'nowhere'))
    with pytest.raises(DataError, match='annotation file not found'):
        fit_to_folder(config(tmp_path))
    write(tmp_path, ['car', 'bus'], ['car'])
    with pytest.raises(DataError, match='(?s)b.json.*not in the file: bus'):
        fit_to_folder(config(tmp_path))
    with pytest.raises(DataError, match='(?s)a.json.*not in the file: tram'):
        fit_to_folder(config(tmp_path, classes=['tram']))
