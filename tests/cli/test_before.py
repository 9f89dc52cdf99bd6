"""A look at the data before the first step: it finds all that would teach nothing, or wrongly."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mmhybrid.cli.arguments import argument_parser
from mmhybrid.cli.config import load_config
from mmhybrid.cli.datasets import check_data, classes_of

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


def test_boxes_in_other_files_than_those_of_coco(root):
    arguments = [str(CONFIGS / 'retinanet_cmt_ti_custom.py'), '--cfg-options', f'data_root={root}']
    cfg = load_config(argument_parser('').parse_args(arguments))
    given = cfg.train_dataloader.dataset
    # A line of JSON for each image, in a file with the same suffix.
    (root / 'lines.json').write_text('{"filename": "a.jpg", "height": 64, "width": 96}\n' * 2)
    cfg.train_dataloader.dataset = dict(given, type='ODVGDataset', ann_file='lines.json')
    check_data(cfg, ['train'])
    # A kind of CocoDataset, whatever its file is called.
    count = change(root, 'train', lambda i, row: row.update(iscrowd=1))
    (root / 'annotations/instances_train.json').rename(root / 'annotations/train.txt')
    cfg.train_dataloader.dataset = dict(
        given, type='Objects365V2Dataset', ann_file='annotations/train.txt'
    )
    with pytest.raises(ValueError, match=f'train: none of {count} boxes is trained on'):
        check_data(cfg, ['train'])


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


# ---------------------------------------------------------------------------- one class


def test_a_softmax_over_one_class(job, tool, tmp_path):
    config, options = job('mmseg', 'model.decode_head.num_classes=1')
    with pytest.raises(ValueError, match='model.decode_head.num_classes=1: a softmax over one'):
        tool('train').main([config, *options])
    config, options = job('mmpretrain', 'model.head.num_classes=1')
    with pytest.raises(ValueError, match='model.head.num_classes=1: a softmax over one class'):
        tool('train').main([config, *options])


def test_one_folder_of_a_class(look, tmp_path):
    draw_classes(tmp_path / 'in', ['.png'])
    for split in ('train', 'val'):
        shutil.rmtree(tmp_path / f'in/{split}/aster')
    with pytest.raises(ValueError, match='holds one class, rose: nothing is learned'):
        look('linear_cmt_ti_custom', f'data_root={tmp_path / "in"}')


# ---------------------------------------------------------------------------- masks


@pytest.fixture
def masks(tmp_path):
    """A function of a class map (H, W) and options of a photograph: a folder of masks like it."""

    def draw(class_map, count=12, size=None, **save):
        height, width = class_map.shape
        for split in ('train', 'val'):
            for part in ('images', 'annotations'):
                (tmp_path / 'in' / part / split).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                image = Image.new('RGB', size or (width, height), (20 * i, 60, 25 * len(split)))
                image.save(tmp_path / f'in/images/{split}/{split}{i}.jpg', **save)
                Image.fromarray(class_map).save(tmp_path / f'in/annotations/{split}/{split}{i}.png')
        (tmp_path / 'in/classes.txt').write_text('background\ncrack\n')
        return tmp_path / 'in'

    return draw


SQUARE = np.zeros((48, 64), np.uint8)
SQUARE[8:24, 10:40] = 1


def test_masks_of_black_and_white(look, tool, masks, capsys):
    root = masks(SQUARE * 255)
    name, option = 'upernet_cmt_ti_scratch_custom', f'data_root={root}'
    message = ('of 2 classes the masks hold background alone: 255 stands for "none" '
               r'\(ignore_index\), crack never occurs and is probably 255')  # fmt: skip
    with pytest.raises(ValueError, match=f'train: {message}'):
        look(name, option)
    assert tool('check_data').main([str(root)]) == 1
    out = capsys.readouterr().out
    assert out.count('crack never occurs and is probably 255') == 2
    (root / 'classes.txt').unlink()
    assert tool('check_data').main([str(root)]) == 1
    assert 'the masks hold 0 and 255 alone' in capsys.readouterr().out
    # Any of the masks may be the one that holds the other class.
    Image.fromarray(SQUARE).save(root / 'annotations/train/train10.png')
    assert look(name, option, 'classes=background,crack', splits=['train']) == ''
    # The line of the message makes a folder that trains.
    (root / 'table.txt').write_text('background 0 0 0\ncrack 255 255 255\n')
    Image.fromarray(SQUARE * 255).save(root / 'annotations/train/train10.png')
    out = root.parent / 'out'
    table = str(root / 'table.txt')
    tool('data').main(['convert', str(root), str(out), '--format', 'colours', '--colours', table])
    assert look(name, f'data_root={out}') == ''
    found = np.asarray(Image.open(out / 'annotations/val/val3.png'))
    assert np.array_equal(found, SQUARE)


def test_zero_that_was_a_class(look, masks):
    with pytest.raises(ValueError, match='0 stands for "none" by reduce_zero_label=True'):
        look('upernet_cmt_ti_scratch_custom', f'data_root={masks(SQUARE)}',
             'reduce_zero_label=True')  # fmt: skip


def test_masks_of_another_size(look, masks):
    name = 'upernet_cmt_ti_scratch_custom'
    root = masks(SQUARE)
    assert look(name, f'data_root={root}') == ''
    Image.fromarray(SQUARE[:40]).save(root / 'annotations/val/val7.png')
    with pytest.raises(ValueError, match='val: masks of another size than their image: '
                                         '.*png has 64x40, the image 64x48'):  # fmt: skip
        look(name, f'data_root={root}')


def test_photographs_that_are_turned(look, masks):
    exif = Image.Exif()
    exif[0x0112] = 6
    root = masks(SQUARE, exif=exif)
    with pytest.raises(ValueError, match='another size .* turned by their EXIF entry, masks are'):
        look('upernet_cmt_ti_scratch_custom', f'data_root={root}')
    # As the host shows the photograph, so its mask has to be.
    root = masks(SQUARE.T.copy(), size=(64, 48), exif=exif)
    assert look('upernet_cmt_ti_scratch_custom', f'data_root={root}') == ''


# ---------------------------------------------------------------------------- values of images


def test_images_of_16_bits(look, tool, root, capsys):
    for path in (root / 'images').rglob('*.jpg'):
        Image.fromarray(np.asarray(Image.open(path).convert('L')).astype(np.uint16)).save(
            path, format='PNG'
        )
    name, option = 'retinanet_cmt_ti_custom', f'data_root={root}'
    with pytest.raises(ValueError, match='train: 4 of 4 images have 16-bit .* read as 0 to 0 of'):
        look(name, option)
    assert tool('check_data').main([str(root)]) == 1
    assert '4 of 4 images have 16-bit integer values' in capsys.readouterr().out
    for file in (root / 'images').rglob('*.jpg'):  # by the name that it has, a JPEG cannot be deep
        file.rename(file.with_suffix('.png'))
    for split in ('train', 'val'):
        file = root / f'annotations/instances_{split}.json'
        file.write_text(file.read_text().replace('.jpg', '.png'))
    tool('data').main(['to8bit', str(root), f'{root}-8'])
    out = capsys.readouterr().out
    assert '6 images written with 8 bits' in out and 'other images for the model: --range' in out
    assert look(name, f'data_root={root}-8') == ''


def test_photographs_that_are_turned_under_boxes(look, root):
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in (root / 'images/train').iterdir():
        Image.open(path).save(path, exif=exif)
    out = look('retinanet_cmt_ti_custom', f'data_root={root}')
    assert 'train: images of another size than annotated (4): ' in out
    assert 'has 64x96, annotated 96x64' in out


# ---------------------------------------------------------------------------- outlines


def test_objects_without_outlines(look, tool, root, capsys):
    masks, boxes = 'maskrcnn_cmt_ti_scratch_custom', 'retinanet_cmt_ti_custom'
    option = f'data_root={root}'
    count = change(root, 'train', lambda i, row: row.update(segmentation=[]) if i % 2 else None)
    with pytest.raises(ValueError, match=f'train: {count // 2} of {count} objects have no outline'):
        look(masks, option)
    assert look(boxes, option) == ''
    assert tool('check_data').main([str(root)]) == 0
    assert f'{count // 2} of {count} objects have no outline' in capsys.readouterr().out


def test_corners_in_the_place_of_sides(look, root):
    def corners(i, row):
        x, y, width, height = row['bbox']
        row['bbox'] = [x, y, x + width, y + height]

    change(root, 'train', corners)
    for name in ('retinanet_cmt_ti_custom', 'maskrcnn_cmt_ti_scratch_custom'):
        with pytest.raises(ValueError, match='boxes are not those of their outlines; they look'):
            look(name, f'data_root={root}')


# ---------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ('name', 'option', 'message'),
    [
        ('upernet_cmt_ti_custom', 'mask_folder.train_masks', "'train_masks', but 'train_mask'"),
        ('retinanet_cmt_ti_custom', 'coco_folder.train_annn', "no 'train_annn', but 'train_ann'"),
        ('retinanet_cmt_ti_custom', 'coco_folder.val_fraktion', "but 'val_fraction'"),
        ('linear_cmt_ti_custom', 'class_folder.validation', "no 'validation', but 'val'"),
        ('linear_cmt_ti_custom', 'class_folder.x', 'it has train, val, val_fraction, val_seed'),
    ],
)  # fmt: skip
def test_keys_that_nothing_reads(look, tmp_path, name, option, message):
    with pytest.raises(ValueError, match=f'{option}=...: .*{message}'):
        look(name, f'data_root={tmp_path}', f'{option}=x')


def test_a_key_of_a_config_of_ones_own(tmp_path):
    (tmp_path / 'mine.py').write_text(
        f"_base_ = '{CONFIGS}/retinanet_cmt_ti_custom.py'\ncoco_folder = dict(train_image='x')\n"
    )
    arguments = [str(tmp_path / 'mine.py'), '--cfg-options', f'data_root={tmp_path}']
    with pytest.raises(ValueError, match="no 'train_image', but 'train_img'"):
        load_config(argument_parser('').parse_args(arguments))


# ---------------------------------------------------------------------------- names of classes


def trained(tmp_path, classes, model):
    """A checkpoint of a model that was trained on classes."""
    path = tmp_path / 'trained.pth'
    meta = dict(dataset_meta=dict(classes=classes))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return str(path)


@pytest.fixture
def model_of(tool):
    """A function of a config file and options: its model."""

    def build(config, options):
        from mmengine.registry import MODELS, init_default_scope

        cfg = load_config(argument_parser('').parse_args([config, *options]))
        init_default_scope(cfg.default_scope)
        return MODELS.build(cfg.model)

    return build


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain'])
def test_a_checkpoint_of_other_classes(scope, job, tool, model_of, tmp_path, capsys):
    config, options = job(scope)
    cfg = load_config(argument_parser('').parse_args([config, *options]))
    names = classes_of(cfg, 'test')
    assert len(names) > 4 and classes_of(cfg, 'train') == names
    swapped = [names[1], names[0], *names[2:]]
    others = ['x', *names[1:]]
    model = model_of(config, options)
    work = ['--work-dir', str(tmp_path / 'w')]
    path = trained(tmp_path, swapped, model)
    with pytest.raises(ValueError, match='numbers the classes in another order than the data'):
        tool('test').main([config, path, *options, *work])
    path = trained(tmp_path, others, model)
    with pytest.raises(ValueError, match='other classes than the data has\n  checkpoint: x, '):
        tool('train').main([config, '--resume', path, *options, *work])
    # Predictions have the names of the checkpoint.
    picture = tmp_path / 'a.png'
    Image.new('RGB', (96, 64)).save(picture)
    capsys.readouterr()
    tool('infer').main([config, path, str(picture), *options, *work])
    out = capsys.readouterr().out
    assert f'was trained on, {", ".join(others)}; the config has {", ".join(names)}' in out


def test_fine_tuning_on_other_classes(job, tool, model_of, tmp_path, capsys):
    config, options = job('mmpretrain', 'train_cfg.max_epochs=1', 'load_from=trained.pth')
    model = model_of(config, options)
    names = ['fish', 'gear', 'heart', 'leaf', 'moon', 'star']
    trained(tmp_path, ['x', *names[1:]], model)
    # Fine-tuning learns other classes, which is said; the same ones in another order are refused.
    capsys.readouterr()
    tool('train').main([config, '--no-validate', *options])
    assert 'its head learns those of the data\n  checkpoint: x, ' in capsys.readouterr().out
    trained(tmp_path, names[::-1], model)
    with pytest.raises(ValueError, match='in another order'):
        tool('train').main([config, *options])


def test_data_of_other_classes_than_the_config(look, tool, tmp_path, data, root, capsys):
    """A saved config on another folder: as many classes, with other names."""
    draw_classes(tmp_path / 'in', ['.png'])
    name, option = 'linear_cmt_ti_custom', f'data_root={tmp_path / "in"}'
    arguments = [str(CONFIGS / f'{name}.py'), '--cfg-options', option]
    cfg = load_config(argument_parser('').parse_args(arguments))
    cfg.dump(tmp_path / 'saved.py')
    other = shutil.copytree(tmp_path / 'in', tmp_path / 'other')
    for split in ('train', 'val'):
        (other / split / 'aster').rename(other / split / 'tulip')
    again = [str(tmp_path / 'saved.py'), '--cfg-options', f'data_root={other}']
    cfg = load_config(argument_parser('').parse_args(again))
    with pytest.raises(ValueError, match='(?s)test: the folders .* config:  aster, rose\n'
                                         '  folders: rose, tulip'):  # fmt: skip
        check_data(cfg, ['test'])
    assert tool('check_data').main(again) == 1
    assert 'are not the classes of the config' in capsys.readouterr().out
    for split in ('train', 'val'):  # numbers are no names
        (other / split / 'tulip').rename(other / split / '0')
        (other / split / 'rose').rename(other / split / '1')
    check_data(cfg, ['test'])


def test_masks_of_other_classes_than_the_config(tool, masks, tmp_path):
    root = masks(SQUARE)
    arguments = [str(CONFIGS / 'upernet_cmt_ti_scratch_custom.py')]
    cfg = load_config(
        argument_parser('').parse_args([*arguments, '--cfg-options', f'data_root={root}'])
    )
    check_data(cfg, ['test'])
    (root / 'classes.txt').write_text('crack\nbackground\n')
    with pytest.raises(ValueError, match='(?s)classes.txt are not those of the config.*file:   cr'):
        check_data(cfg, ['test'])


# ---------------------------------------------------------------------------- several processes


def test_processes_with_gpus_join_as_those_of_the_runner(monkeypatch):
    from mmengine.config import Config

    from mmhybrid.cli.launch import start_processes

    calls = []
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cuda')
    for place in ('dist.init_dist', 'utils.dl_utils.set_multi_processing'):
        monkeypatch.setattr(f'mmengine.{place}', lambda *a, **k: calls.append((a, k)))
    environment = dict(mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='nccl'))
    start_processes(Config(dict(launcher='none', env_cfg=environment)))
    assert calls == []
    start_processes(Config(dict(launcher='slurm', env_cfg=environment)))
    assert calls == [
        ((), dict(mp_start_method='fork', distributed=True)),
        (('slurm',), dict(backend='nccl')),
    ]


def test_a_training_that_goes_on_does_not_read_again(job, tool, tmp_path, monkeypatch):
    config, options = job('mmdet')
    seen = []
    monkeypatch.setattr('mmhybrid.data.before.look_at_coco', lambda *_, **__: seen.append(1))
    arguments = [config, '--no-validate', '--resume', '--work-dir', 'work', *options]
    tool('train').main(arguments)
    assert seen == [1]  # there was nothing yet to go on from
    tool('train').main([*arguments, 'train_cfg.max_epochs=2'])
    assert seen == [1] and (tmp_path / 'work/epoch_2.pth').exists()
    with pytest.raises(ValueError, match='class names do not match'):
        tool('train').main([*arguments, "train_dataloader.dataset.metainfo.classes=['x']"])


# ---------------------------------------------------------------------------- smaller things


@pytest.mark.parametrize(
    'name', ['retinanet_cmt_ti_custom', 'upernet_cmt_ti_scratch_custom', 'linear_cmt_ti_custom']
)
def test_a_folder_without_validation_data(name, tool, masks, root, tmp_path):
    if name.startswith('linear'):
        root = tmp_path / 'in'
        draw_classes(root, ['.png'])
        shutil.rmtree(root / 'val')
    elif name.startswith('upernet'):
        root = masks(SQUARE)
        for part in ('images', 'annotations'):
            shutil.rmtree(root / part / 'val')
    else:
        (root / 'annotations/instances_val.json').unlink()
    arguments = [str(CONFIGS / f'{name}.py'), '--cfg-options', f'data_root={root}']
    with pytest.raises(ValueError, match='not found: .*without a validation part'):
        load_config(train_args(arguments))
    args = train_args([*arguments, '--no-validate'])
    cfg = load_config(args)
    assert len(cfg.train_dataloader.dataset.metainfo.classes) > 1
    check_data(cfg, ['train'])
    with pytest.raises(ValueError, match='not found'):  # nothing else is taken in its place
        check_data(cfg, ['test'])


def test_byte_order_marks(look, masks, root):
    folder = masks(SQUARE)
    (folder / 'classes.txt').write_bytes(b'\xef\xbb\xbfbackground\ncrack\n')
    cfg = load_config(train_args([str(CONFIGS / 'upernet_cmt_ti_scratch_custom.py'),
                                  '--cfg-options', f'data_root={folder}']))  # fmt: skip
    assert cfg.classes == ['background', 'crack']
    file = root / 'annotations/instances_train.json'
    file.write_bytes(b'\xef\xbb\xbf' + file.read_bytes())
    with pytest.raises(ValueError, match='begins with a byte order mark: save it in UTF-8 without'):
        look('retinanet_cmt_ti_custom', f'data_root={root}')


def test_hidden_folders(tool, masks, tmp_path, capsys):
    from mmengine.registry import DATASETS, init_default_scope

    def datasets(name, root):
        arguments = [str(CONFIGS / f'{name}.py'), '--cfg-options', f'data_root={root}']
        cfg = load_config(train_args([*arguments, '--work-dir', str(tmp_path / name)]))
        check_data(cfg, ['train', 'val'])
        init_default_scope(cfg.default_scope)
        sets = [DATASETS.build(cfg[f'{split}_dataloader'].dataset) for split in ('train', 'val')]
        assert tool('check_data').main([*arguments, '--work-dir', str(tmp_path / name)]) == 0
        return cfg, [[info['img_path'] for info in map(one.get_data_info, range(len(one)))]
                     for one in sets]  # fmt: skip

    root = tmp_path / 'classes'
    draw_classes(root, ['.png', '.webp'])
    for split in ('train', 'val'):
        shutil.copytree(root / split / 'rose', root / split / '.ipynb_checkpoints')
    shutil.copytree(root / 'train/rose', root / 'train/aster/.hidden')
    cfg, (train, val) = datasets('linear_cmt_ti_custom', root)
    assert cfg.classes == ['aster', 'rose']
    names = ['aster/0.png', 'aster/1.webp', 'rose/0.png', 'rose/1.webp']
    for found, split in ((train, 'train'), (val, 'val')):
        assert sorted(found) == [str(root / split / name) for name in names]
    labelled = (tmp_path / 'linear_cmt_ti_custom/split/train_shown.txt').read_text().split('\n')
    assert labelled[:4] == ['aster/0.png 0', 'aster/1.webp 0', 'rose/0.png 1', 'rose/1.webp 1']
    for split in ('train', 'val'):  # the host would take an empty one for the first class
        for path in (root / split).rglob('.ipynb_checkpoints/*'):
            path.unlink()
    shutil.rmtree(root / 'train/aster/.hidden')
    cfg, found = datasets('linear_cmt_ti_custom', root)
    assert cfg.classes == ['aster', 'rose'] and [*map(len, found)] == [4, 4]
    root = masks(SQUARE, count=3)
    shutil.copytree(root / 'images/train', root / 'images/train/.ipynb_checkpoints')
    cfg, (train, val) = datasets('upernet_cmt_ti_scratch_custom', root)
    assert sorted(train) == [str(root / f'images/train/train{i}.jpg') for i in range(3)]
    assert len(val) == 3 and not cfg.val_dataloader.dataset.get('ann_file')


@pytest.mark.parametrize('how', ['--weights', 'weights='])
def test_what_is_said_of_the_weights_stays(how, masks, tmp_path):
    weights = tmp_path / 'vit.pth'
    weights.touch()
    option = 'model.backbone.init_cfg.rgb_channels=2,1,0'
    given = [how, str(weights)] if how == '--weights' else []
    named = [] if given else [f'{how}{weights}']
    config = str(CONFIGS / 'upernet_cmt_ti_scratch_custom.py')
    root = masks(SQUARE)
    arguments = [config, *given, '--cfg-options', f'data_root={root}', option, *named]
    init_cfg = load_config(train_args(arguments)).model.backbone.init_cfg
    assert init_cfg == dict(type='Pretrained', checkpoint=str(weights), rgb_channels=[2, 1, 0])


def test_a_slender_photograph(masks):
    from mmengine.registry import MODELS, init_default_scope

    from mmhybrid.cli.predictors import Predictor

    cfg = load_config(train_args([str(CONFIGS / 'upernet_cmt_ti_scratch_custom.py'),
                                  '--cfg-options', f'data_root={masks(SQUARE)}']))  # fmt: skip
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    for height, width in ((20, 2000), (2000, 20), (64, 96)):
        pixels = np.zeros((height, width, 3), np.uint8)
        (found,) = Predictor(cfg, model=model).predict([pixels])
        assert found['class_map'].shape == (height, width)


def train_args(arguments):
    from mmhybrid.cli.train import parse_args

    return parse_args(arguments)
