import json

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from mmhybrid.data.coco import DataError
from mmhybrid.data.fit import fit_to_folder, read_mask


def config(root, **options):
    """What all kinds of own data have in common."""
    loaders = {
        f'{split}_dataloader': dict(
            dataset=dict(pipeline=[dict(type='Resize'), dict(type='RandomCrop')])
        )
        for split in ('train', 'val', 'test')
    }
    return Config(
        loaders
        | dict(
            data_root=str(root),
            max_iters=30,
            weights=None,
            image_size=(64, 48),
            model=dict(backbone=dict(), data_preprocessor=dict()),
            val_evaluator=dict(),
            test_evaluator=dict(),
            train_cfg=dict(),
            default_hooks=dict(checkpoint=dict(interval=None), logger=dict(interval=None)),
            optim_wrapper=dict(paramwise_cfg=dict(layer_decay_rate=0.8)),
            param_scheduler=[
                dict(type='LinearLR', end=100), dict(type='CosineAnnealingLR')
            ],
        )
        | options
    )  # fmt: skip


# ---------------------------------------------------------------------------- COCO format


def coco_config(root, **options):
    model = dict(backbone=dict(), roi_head=dict(bbox_head=[dict(num_classes=80)] * 2, mask_head={}))
    folder = dict(train_ann='a.json', train_img='t', val_ann='b.json', val_img='v')
    return config(root, **(dict(classes=None, coco_folder=folder, model=model) | options))


def write(root, train, val):
    for name, classes in (('a.json', train), ('b.json', val)):
        categories = [dict(id=i, name=name) for i, name in enumerate(classes)]
        (root / name).write_text(json.dumps(dict(categories=categories)))


def test_config_follows_the_folder(tmp_path):
    write(tmp_path, ['car', 'bus'], ['car', 'bus'])
    cfg = coco_config(tmp_path)
    fit_to_folder(cfg)
    assert cfg.classes == ['car', 'bus']
    assert cfg.train_dataloader.dataset.ann_file == 'a.json'
    assert cfg.test_dataloader.dataset.data_prefix.img == 'v'
    assert cfg.val_dataloader.dataset.metainfo.classes == ['car', 'bus']
    assert cfg.val_evaluator.ann_file == str(tmp_path / 'b.json')
    assert [head.num_classes for head in cfg.model.roi_head.bbox_head] == [2, 2]
    assert cfg.train_dataloader.dataset.pipeline[0].scale == (64, 48)
    assert cfg.param_scheduler[0].end == 3  # a tenth of the training
    assert cfg.param_scheduler[1].end == cfg.param_scheduler[1].T_max == 30
    assert 'init_cfg' not in cfg.model.backbone
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 1.0
    assert 'coco_folder' not in cfg


@pytest.mark.parametrize(
    ('given', 'fitted'),
    [
        ([1.0] * 80 + [0.1], [1.0, 1.0, 0.1]),  # of Mask2Former on COCO
        ([3.0, 1.0, 0.1], [3.0, 1.0, 0.1]),
        ([3.0, 1.0], [3.0, 1.0]),
        (1.0, 1.0),  # of DETR
    ],
)
def test_weights_of_classes(given, fitted, tmp_path):
    write(tmp_path, ['car', 'bus'], ['car', 'bus'])
    head = dict(num_classes=80, loss_cls=dict(class_weight=given))
    cfg = coco_config(tmp_path, model=dict(backbone=dict(), bbox_head=head))
    fit_to_folder(cfg)
    assert cfg.model.bbox_head.loss_cls.class_weight == fitted


def test_options_win(tmp_path):
    write(tmp_path, ['car', 'bus', 'tram'], ['car', 'bus', 'tram'])
    cfg = coco_config(
        tmp_path, classes='tram,car', weights='vit.pth', train_cfg=dict(max_iters=2000)
    )  # in the file's order below
    fit_to_folder(cfg)
    assert cfg.classes == ['car', 'tram']
    assert [scheduler.end for scheduler in cfg.param_scheduler] == [100, 2000]
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='vit.pth')
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.8


def test_rates_of_layers_stay_where_something_was_learned(tmp_path):
    write(tmp_path, ['car'], ['car'])
    cfg = coco_config(tmp_path, load_from='trained.pth')
    fit_to_folder(cfg)
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.8


@pytest.mark.parametrize(
    ('steps', 'evaluated', 'logged'), [(10, 10, 1), (160, 27, 16), (3000, 500, 20), (9000, 500, 20)]
)
def test_evaluations_and_the_log_follow_the_steps(tmp_path, steps, evaluated, logged):
    write(tmp_path, ['car'], ['car'])
    cfg = coco_config(tmp_path, max_iters=steps)
    fit_to_folder(cfg)
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval == evaluated
    assert cfg.default_hooks.logger.interval == logged
    hooks = dict(checkpoint=dict(interval=7), logger=None)
    cfg = coco_config(tmp_path, train_cfg=dict(val_interval=5), default_hooks=hooks)
    fit_to_folder(cfg)
    assert (cfg.train_cfg.val_interval, cfg.default_hooks.checkpoint.interval) == (5, 7)


def test_folders_that_do_not_fit(tmp_path):
    with pytest.raises(DataError, match='data root not found'):
        fit_to_folder(coco_config(tmp_path / 'nowhere'))
    with pytest.raises(DataError, match='annotation file not found'):
        fit_to_folder(coco_config(tmp_path))
    write(tmp_path, ['car', 'bus'], ['car'])
    with pytest.raises(DataError, match='(?s)b.json.*not in the file: bus'):
        fit_to_folder(coco_config(tmp_path))
    with pytest.raises(DataError, match='(?s)a.json.*not in the file: tram'):
        fit_to_folder(coco_config(tmp_path, classes=['tram']))
    for number in (0, 2):
        with pytest.raises(DataError, match=f'classes={number}: expected names .*: car, bus'):
            fit_to_folder(coco_config(tmp_path, classes=number))


def test_names_that_read_as_numbers(tmp_path):
    write(tmp_path, ['3', '4', '1.5'], ['3', '4', '1.5'])
    for given, expected in ((3, ['3']), ([4, 3], ['3', '4']), (1.5, ['1.5'])):
        cfg = coco_config(tmp_path, classes=given)
        fit_to_folder(cfg)
        assert cfg.classes == expected


def test_sizes_of_images(tmp_path):
    write(tmp_path, ['car'], ['car'])
    for given in (240, [240, 240]):
        cfg = coco_config(tmp_path, image_size=given)
        fit_to_folder(cfg)
        assert cfg.image_size == cfg.train_dataloader.dataset.pipeline[0].scale == (240, 240)
    for given in (None, 0, '240x180', [240], [240, 0.5], [1, 2, 3]):
        with pytest.raises(DataError, match='image_size=.*: expected one or two numbers of pixels'):
            fit_to_folder(coco_config(tmp_path, image_size=given))


# ---------------------------------------------------------------------------- images and masks

PARTS = dict(
    train_img='images/train',
    train_mask='masks/train',
    val_img='images/val',
    val_mask='masks/val',
    img_suffix=None,
    mask_suffix='.png',
)


def mask_config(root, **options):
    model = dict(
        backbone=dict(),
        data_preprocessor=dict(),
        decode_head=dict(num_classes=150),
        auxiliary_head=[dict(num_classes=150)],
        test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
    )
    defaults = dict(
        classes=['road', 'sky'],
        palette=None,
        ignore_index=255,
        reduce_zero_label=False,
        mask_folder=PARTS,
        crop_size=(30, 36),
        model=model,
    )
    return config(root, **(defaults | options))


@pytest.fixture
def masks(tmp_path):
    for split, count in (('train', 12), ('val', 1)):
        for index in range(count):
            for part, suffix in (('images', '.jpg'), ('masks', '.png')):
                path = tmp_path / part / split / f'city/{index}{suffix}'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((4, 6), index % 2, np.uint8)).save(path)
    return tmp_path


def test_config_follows_masks(masks):
    cfg = mask_config(masks, ignore_index=9)
    fit_to_folder(cfg)
    dataset = cfg.val_dataloader.dataset
    assert dataset.data_root == str(masks)
    assert dataset.data_prefix == dict(img_path='images/val', seg_map_path='masks/val')
    assert (dataset.img_suffix, dataset.seg_map_suffix) == ('.jpg', '.png')
    assert dataset.metainfo.classes == ['road', 'sky'] and len(dataset.metainfo.palette) == 2
    resize, crop = cfg.train_dataloader.dataset.pipeline
    assert resize.scale == (64, 48)
    assert crop.crop_size == cfg.model.data_preprocessor.size == (30, 36)
    assert cfg.model.test_cfg.crop_size == (30, 36) and cfg.model.test_cfg.stride == (20, 24)
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head[0].num_classes == 2
    # The ignored value reaches all that handles masks.
    assert {
        crop.ignore_index,
        dataset.ignore_index,
        cfg.model.data_preprocessor.seg_pad_val,
        cfg.model.decode_head.ignore_index,
        cfg.model.auxiliary_head[0].ignore_index,
        cfg.test_evaluator.ignore_index,
    } == {9}


def test_one_number_is_a_square(masks):
    cfg = mask_config(masks, image_size=64, crop_size=30)
    fit_to_folder(cfg)
    resize, crop = cfg.train_dataloader.dataset.pipeline
    assert (resize.scale, crop.crop_size) == ((64, 64), (30, 30))
    assert cfg.model.data_preprocessor.size == cfg.model.test_cfg.crop_size == (30, 30)
    assert cfg.model.test_cfg.stride == (20, 20)
    with pytest.raises(DataError, match='crop_size=-1: expected one or two numbers of pixels'):
        fit_to_folder(mask_config(masks, crop_size=-1))


def test_class_names_of_masks(masks):
    with pytest.raises(DataError, match='(?s)classes=road,sky.*hold the values 0, 1'):
        fit_to_folder(mask_config(masks, classes=None))
    cfg = mask_config(masks, classes=2)
    fit_to_folder(cfg)
    assert cfg.classes == ['class 0', 'class 1']
    (masks / 'classes.txt').write_text('road\nblue sky\n\n')
    cfg = mask_config(masks, classes=None, palette=[[1, 2, 3], [4, 5, 6]])
    fit_to_folder(cfg)
    assert cfg.test_dataloader.dataset.metainfo.classes == ['road', 'blue sky']
    assert cfg.test_dataloader.dataset.metainfo.palette[1] == [4, 5, 6]
    with pytest.raises(DataError, match='1 colours for 2 classes'):
        fit_to_folder(mask_config(masks, palette=[[0, 0, 0]]))
    with pytest.raises(DataError, match='given twice: road'):
        fit_to_folder(mask_config(masks, classes='road,road'))
    (masks / 'classes.txt').write_bytes('chaussée'.encode('latin-1'))
    with pytest.raises(DataError, match='classes.txt is not in UTF-8 .byte 0xe9 .*save it in UTF'):
        fit_to_folder(mask_config(masks, classes=None))


def test_values_that_are_no_class(masks):
    with pytest.raises(DataError, match='holds 1, which is no class: expected 0 to 0, or 255'):
        fit_to_folder(mask_config(masks, classes=['road']))
    cfg = mask_config(masks, classes=['sky', 'sea'], reduce_zero_label=True)
    fit_to_folder(cfg)
    assert cfg.train_dataloader.dataset.reduce_zero_label
    with pytest.raises(DataError, match='ignore_index=9 with reduce_zero_label'):
        fit_to_folder(mask_config(masks, reduce_zero_label=True, ignore_index=9))


def test_mask_folders_that_do_not_fit(masks):
    with pytest.raises(DataError, match='mask folder of val not found: .*masks holds train, val'):
        fit_to_folder(mask_config(masks, mask_folder=PARTS | dict(val_mask='masks/test')))
    with pytest.raises(DataError, match='12 of 12 .* have no mask; .*city/0_mask.png'):
        fit_to_folder(mask_config(masks, mask_folder=PARTS | dict(mask_suffix='_mask.png')))
    (masks / 'masks/val/city/0.png').unlink()
    with pytest.raises(DataError, match='1 of 1 .* have no mask'):
        fit_to_folder(mask_config(masks))
    (masks / 'images/train/city/x.PNG').touch()
    with pytest.raises(DataError, match='several kinds .*: 12 .jpg, 1 .PNG'):
        fit_to_folder(mask_config(masks))
    for path in (masks / 'images/train/city').iterdir():
        path.unlink()
    with pytest.raises(DataError, match='no images in'):
        fit_to_folder(mask_config(masks))
    (masks / 'images/train/city/._0.jpg').touch()  # what a Mac leaves behind is no image
    with pytest.raises(DataError, match='no images in'):
        fit_to_folder(mask_config(masks))


def test_masks_that_are_none(tmp_path):
    path = tmp_path / 'mask.png'
    path.write_bytes(b'no image')
    with pytest.raises(DataError, match='cannot be read'):
        read_mask(path)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    with pytest.raises(DataError, match='3 channels: expected one'):
        read_mask(path)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(path)
    with pytest.raises(DataError, match='type .*: expected one channel of one byte'):
        read_mask(path)


# ---------------------------------------------------------------------------- a folder a class


def class_config(root):
    steps = [dict(type='RandomResizedCrop'), dict(type='ResizeEdge'), dict(type='CenterCrop')]
    cfg = config(
        root,
        class_folder=dict(train='train', val='val'),
        image_size=28,
        model=dict(backbone=dict(), head=dict(num_classes=1000)),
    )
    cfg.train_dataloader.dataset.pipeline = steps
    return cfg


def test_config_follows_folders_of_classes(tmp_path):
    with pytest.raises(DataError, match='image folder of train not found'):
        fit_to_folder(class_config(tmp_path))
    for name in ('train/rose', 'train/aster', 'val/rose'):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DataError, match='different classes: aster'):
        fit_to_folder(class_config(tmp_path))
    (tmp_path / 'val/aster').mkdir()
    cfg = class_config(tmp_path)
    fit_to_folder(cfg)
    assert cfg.model.head.num_classes == 2
    assert cfg.val_dataloader.dataset.data_prefix == 'val'
    assert cfg.val_dataloader.dataset.metainfo.classes == ['aster', 'rose']
    crop, resize, center = cfg.train_dataloader.dataset.pipeline
    assert (crop.scale, resize.scale, center.crop_size) == (28, 32, 28)
    cfg = class_config(tmp_path)
    cfg.image_size = [28, 28]
    with pytest.raises(DataError, match=r'image_size=\[28, 28\]: expected one number'):
        fit_to_folder(cfg)


def test_one_class_is_refused(masks):
    for values, options in (((0, 255), {}), ((0, 1), dict(reduce_zero_label=True))):
        for path in masks.glob('masks/*/*/*.png'):
            Image.fromarray(np.array([values], np.uint8)).save(path)
        with pytest.raises(DataError, match='one class, crack: .* classes=background,crack') as one:
            fit_to_folder(mask_config(masks, classes='crack', **options))
        assert ('reduce_zero_label=False' in str(one.value)) == bool(options)
        cfg = mask_config(masks, classes=['background', 'crack'])
        fit_to_folder(cfg)
        assert cfg.model.decode_head.num_classes == 2
