"""A good folder has no findings; each thing that can be wrong is found and named."""

import json
import shutil
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mmhybrid.data.check import (
    check_balance,
    check_class_list,
    check_classes,
    check_coco,
    check_masks,
    check_overlap,
    check_voc,
)
from mmhybrid.data.findings import Reading, Split, inside, read_pixels, shown
from mmhybrid.testing.folders import draw_folder


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp('drawn')
    for name in ('coco', 'voc', 'ade20k'):
        draw_folder(name, root / name, train=3, val=1, size=(80, 64))
    return root


@pytest.fixture
def copied(drawn, tmp_path):
    """A function of a layout: a copy of its folder, to be spoilt."""
    return lambda name: shutil.copytree(drawn / name, tmp_path / name)


def coco(root, change=None, split='train', **options):
    file = root / f'annotations/instances_{split}2017.json'
    if change is not None:
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
    return check_coco(split, file, root / f'{split}2017', **options)


def lines(split, level='error'):
    return [line for line in split.findings.lines() if line.startswith(level)]


# ---------------------------------------------------------------------------- COCO format


def test_a_good_coco_folder(copied):
    root = copied('coco')
    train, val = coco(root, masks=True), coco(root, split='val')
    assert lines(train) == lines(val) == []
    assert train.images == 3 and dict(train.sizes) == {(80, 64): 3}
    assert sum(train.counts.values()) > 9 and len(train.counts) == 80
    assert max(train.in_images.values()) <= 3
    assert check_overlap(train, val).lines() == []
    check_balance(train, training=True)
    assert any('classes without boxes (7' in line for line in lines(train, 'warning'))


def set_first(table, **values):
    return lambda content: content[table][0].update(values)


def drop_first(table, key):
    return lambda content: content[table][0].pop(key)


def repeat(table):
    return lambda content: content[table].append(content[table][0])


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (repeat('annotations'), 'ids of annotations used twice'),
        (repeat('images'), 'ids of images used twice'),
        (repeat('categories'), 'ids of categories used twice'),
        (set_first('categories', name='car'), 'category names given twice: car'),
        (set_first('categories', name=3), 'are no text: 3; write each in quotes'),
        (drop_first('annotations', 'id'), 'annotations without "id": number them from 1: image 1'),
        (drop_first('annotations', 'area'), 'annotations without a number as "area": write'),
        (set_first('annotations', area='9'), 'annotations without a number as "area": write'),
        (set_first('annotations', iscrowd='0'), 'annotations without 0 or 1 as "iscrowd": write'),
        (set_first('categories', id=[1]), 'ids of categories that are no numbers'),
        (drop_first('categories', 'name'), 'entries of "categories" without id and name'),
        (set_first('annotations', image_id=77), 'boxes of images that are not listed: image 77'),
        (set_first('annotations', category_id=12), 'unknown categories: category_id 12'),
        (set_first('annotations', category_id={}), 'unknown categories: category_id {}'),
        (set_first('annotations', bbox=[1, 2, 3]), 'boxes that are not four numbers'),
        (set_first('annotations', bbox='all'), 'boxes that are not four numbers'),
        (set_first('annotations', bbox=[0, 0, 1e999, 9]), 'boxes that are not four numbers'),
        (set_first('annotations', bbox=[0, 0, 10**400, 9]), 'boxes that are not four numbers'),
        (set_first('annotations', bbox=[80, 2, 5, 5]), 'boxes outside their image'),
        (set_first('annotations', segmentation=[[1, 2, 3, 4]]), 'three points or more'),
        (
            set_first('annotations', segmentation=[]),
            '1 of 13 objects have no outline, and this config trains on masks: draw them',
        ),
        (set_first('annotations', segmentation='none'), 'neither outlines nor run lengths'),
        (
            set_first('annotations', segmentation=dict(size=[10**9, 10**9], counts=[10**18])),
            'masks of another size than their image',
        ),
        (
            set_first('annotations', segmentation=dict(size=[64, 80], counts=[5])),
            'run lengths that do not fill the image',
        ),
        (
            set_first('annotations', segmentation=dict(size=[64, 80], counts='PZ1')),
            'run lengths that do not fill the image',
        ),
        (
            set_first('annotations', segmentation=dict(size=[64, 80], counts='hello world')),
            'run lengths that do not fill the image',
        ),
        (
            set_first('annotations', segmentation=dict(size=[64, 80], counts=[6000, -880])),
            'run lengths that do not fill the image',
        ),
        (
            set_first('annotations', segmentation=dict(size=[64, 80])),
            'run lengths that do not fill the image',
        ),
        (set_first('images', file_name='gone.jpg'), 'missing image files: '),
        (set_first('images', file_name='../../secret.jpg'), 'out of the folder: ../../secret.jpg'),
        (set_first('images', file_name='/etc/passwd'), 'out of the folder: /etc/passwd'),
        (set_first('images', file_name=7), 'out of the folder: 7'),
        (set_first('images', file_name='a\0b.jpg'), 'missing image files: '),
        (set_first('images', file_name='x' * 5000), 'missing image files: '),
        (set_first('images', file_name='000000000002.jpg'), 'image files listed twice'),
        (set_first('images', width=81), 'images of another size than annotated'),
        (set_first('images', width='80'), 'images without width and height'),
        (drop_first('images', 'file_name'), 'images without "file_name"'),
        (lambda content: content.pop('images'), 'no list "images"'),
        (lambda content: content.update(annotations={}), 'no list "annotations"'),
        (lambda content: content['images'].append(3), 'entries of "images" without id: 3'),
    ],
)
def test_errors_of_a_coco_file(copied, change, message):
    found = lines(coco(copied('coco'), change, masks=True))
    assert any(message in line for line in found), found


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            set_first('annotations', bbox=[3, 3, 0, 9]),
            '1 less than a pixel wide or high, 1 marked "iscrowd": 1: [3, 3, 0, 9] in 000000000001',
        ),
        (set_first('annotations', bbox=[70, 3, 20, 9]), 'boxes that reach out of their image'),
        (set_first('annotations', area=0), 'boxes are not trained on: 1 with "area" 0'),
        (set_first('annotations', id=0), 'annotations with "id" 0, which lowers AP'),
        (lambda content: content.update(annotations=[]), 'images without boxes (3)'),
    ],
)
def test_warnings_of_a_coco_file(copied, change, message):
    split = coco(copied('coco'), change)
    assert lines(split) == []
    assert any(message in line for line in lines(split, 'warning'))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (set_first('annotations', id=0), 'annotations with "id" 0, which AP takes for not found'),
        (set_first('annotations', id='a1'), 'annotations whose "id" is no number'),
        (drop_first('annotations', 'iscrowd'), 'annotations without 0 or 1 as "iscrowd"'),
    ],
)
def test_evaluation_takes_more_than_training(copied, change, message):
    root = copied('coco')
    found = lines(coco(root, change, 'val', evaluated=True))
    assert len(found) == 1 and message in found[0]
    assert lines(coco(root, split='val')) == []


def test_what_lvis_leaves_out(copied):
    def change(content):
        for table, key in (('images', 'file_name'), ('annotations', 'iscrowd')):
            for row in content[table]:
                del row[key]

    root = copied('coco')
    coco(root, change, 'val')
    file = root / 'annotations/instances_val2017.json'
    assert lines(check_coco('val', file, root, evaluated=True, lvis=True)) == []
    found = ' '.join(lines(coco(root, split='val', evaluated=True)))
    assert 'images without "file_name"' in found and '"iscrowd"' in found


@pytest.mark.parametrize(
    'text',
    ['', '{"images": [', '[1, 2]', '[' * 100000, '\x00\xff', '{"images": ' + '9' * 9999],
    ids=['empty', 'cut', 'list', 'deep', 'binary', 'long number'],
)
def test_files_that_are_no_json_object(tmp_path, text):
    (tmp_path / 'a.json').write_text(text)
    found = lines(check_coco('train', tmp_path / 'a.json', tmp_path))
    assert 'a.json' in found[0] and len(found) == 1
    assert 'not found' in lines(check_coco('train', tmp_path / 'b.json', tmp_path))[0]
    (tmp_path / 'a.json').write_bytes(b'{"info": "\xe9"}')
    assert 'UTF-8' in lines(check_coco('train', tmp_path / 'a.json', tmp_path))[0]


def test_class_names_of_the_config(copied):
    split = coco(copied('coco'), classes=['person', 'motor'])
    assert 'not in the file: motor' in lines(split)[0]


def test_class_names_that_are_numbers(copied):
    split = coco(copied('coco'), set_first('categories', name=3), classes=[3, 'car'])
    assert 'no text: 3' in lines(split)[0] and set(split.counts) == {'3', 'car'}


# ---------------------------------------------------------------------------- image files


def test_broken_files(copied):
    root = copied('coco')
    first, second, third = sorted((root / 'train2017').iterdir())
    first.write_bytes(first.read_bytes()[:-900])
    second.write_text('not an image')
    third.write_bytes(b'')
    found = lines(coco(root))
    assert len(found) == 1 and 'broken or truncated image files (3)' in found[0]


def test_a_size_that_is_only_claimed(tmp_path):
    path = tmp_path / 'bomb.png'
    Image.new('L', (4, 4)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (60000).to_bytes(4, 'big') * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, 'big')
    path.write_bytes(data)
    with pytest.raises(ValueError, match='claim more than 100,000,000 pixels'):
        read_pixels(path)


def test_images_turned_by_their_exif_entry(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (8, 4)).save(tmp_path / 'a.jpg', exif=exif)
    assert read_pixels(tmp_path / 'a.jpg')['size'] == (4, 8)


def test_what_opencv_reads_otherwise(tmp_path):
    """The hosts read by it: not all formats that PIL reads, and no EXIF entries of WebP."""
    image = Image.new('RGB', (40, 20))
    image.save(tmp_path / 'a.tif', compression='tiff_lzw')
    assert read_pixels(tmp_path / 'a.tif')['size'] == (40, 20)
    image.save(tmp_path / 'a.jpg', 'PCX')
    with pytest.raises(ValueError, match='a format that OpenCV does not read'):
        read_pixels(tmp_path / 'a.jpg')
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / 'a.webp', exif=exif)
    height, width = cv2.imread(str(tmp_path / 'a.webp')).shape[:2]
    assert read_pixels(tmp_path / 'a.webp')['size'] == (width, height)


@pytest.mark.parametrize('share', [0, 0.3, 1])
def test_run_lengths_in_letters(share, copied):
    mask = pytest.importorskip('pycocotools.mask')
    pixels = np.random.default_rng(0).random((64, 80)) < share
    counts = mask.encode(np.asfortranarray(pixels.astype(np.uint8)))['counts'].decode()
    outline = dict(size=[64, 80], counts=counts)
    assert not lines(coco(copied('coco'), set_first('annotations', segmentation=outline)))


@pytest.mark.parametrize(
    ('train', 'val', 'warned'),
    [
        (['000000', '000001'], ['000000'], False),
        (['img_1', 'img_2', 'img_3'], ['img_2', 'img_1'], False),
        (['img_1', 'img_2', 'img_3'], ['img_2'], True),
        (['street', 'park'], ['park'], True),
        (['000000', '000001'], ['000002'], False),
    ],
)
def test_the_same_names_of_different_images(train, val, warned):
    splits = [Split(name, '', 'boxes') for name in ('train', 'val')]
    splits[0].names, splits[1].names = set(train), set(val)
    found = check_overlap(*splits)
    assert bool(found.groups) == warned
    said = set()
    found.forget(said)
    again = check_overlap(*splits)
    again.forget(said)  # of the masks of the same images
    assert bool(found.groups) == warned and not again.groups


def test_overlap_and_copies(copied):
    root = copied('coco')
    source = root / 'train2017/000000000001.jpg'
    shutil.copy(source, root / 'val2017/000000100001.jpg')
    shutil.copy(source, root / 'train2017/000000000002.jpg')
    train, val = coco(root), coco(root, split='val')
    assert any('images twice in this split' in line for line in lines(train, 'warning'))
    assert 'error: the same images in both' in check_overlap(train, val).lines()[0]


def test_a_sample_reads_less(copied):
    counted = []
    reading = Reading(2, lambda name, done, total: counted.append((name, done, total)))
    split = coco(copied('coco'), reading=reading)
    assert counted == [('train', 1, 2), ('train', 2, 2)]
    assert split.images == 3 and sum(split.sizes.values()) == 2


def test_few_files_are_read_ahead():
    read = []
    items = list(range(500))
    results = iter(Reading().each(None, items, lambda item: read.append(item) or -item))
    assert next(results) == (0, 0)
    time.sleep(0.2)
    assert len(read) < 100
    assert list(results) == [(item, -item) for item in items[1:]] and sorted(read) == items


def test_what_is_printed_of_a_file_is_one_short_line(tmp_path):
    assert shown('a\x1b[31m\nb') == 'a?[31m?b'
    assert len(shown('x' * 10**6)) < 100
    assert inside(tmp_path, 'a/../b.jpg') == tmp_path / 'b.jpg'
    assert inside(tmp_path, 'a/../../b.jpg') is None


# ---------------------------------------------------------------------------- VOC


def test_voc(copied):
    root = copied('voc') / 'VOC2007'
    names = ['aeroplane', 'boat', 'car', 'diningtable', 'motorbike', 'sheep']
    listed = root / 'ImageSets/Main/trainval.txt'
    split = check_voc('train', root, listed, names)
    assert lines(split) == [] and split.images == 4
    assert sum(split.counts.values()) > 9
    (root / 'Annotations/000001.xml').unlink()
    (root / 'Annotations/000002.xml').write_text('<annotation><size>')
    listed.write_text(listed.read_text() + '../../../secret\n')
    found = ' '.join(lines(check_voc('train', root, listed, names[1:])))
    assert 'without an XML file: 000001' in found
    assert 'XML files that cannot be read: 000002' in found
    assert 'out of the folder: ../../../secret' in found
    assert 'cannot be read' in lines(check_voc('train', root, root / 'none.txt', names))[0]


# ---------------------------------------------------------------------------- masks


def ade(root, classes=150, **options):
    images, masks = root / 'images/training', root / 'annotations/training'
    names = None if classes is None else [f'class {i}' for i in range(classes)]
    return check_masks('train', images, masks, names, reduce_zero_label=True, **options)


def test_masks(copied):
    root = copied('ade20k')
    split = ade(root)
    assert split.findings.lines() == [] and split.images == 3
    assert split.counts['class 0'] > 3 * 1000 and split.in_images['class 0'] == 3
    assert sum(split.counts.values()) == 3 * 80 * 61  # three rows are open
    split = ade(root, classes=None)
    assert split.counts['value 1'] > 3000 and not split.findings.lines()
    assert 'expected 1 to 2, or 255 (2)' in lines(ade(root, classes=2))[0]


def test_errors_of_masks(copied):
    root = copied('ade20k')
    first, second, third = sorted((root / 'annotations/training').iterdir())
    Image.fromarray(np.zeros((64, 80, 3), np.uint8)).save(first)
    Image.fromarray(np.zeros((63, 80), np.uint8)).save(second)
    third.rename(third.with_name('other.png'))
    split = ade(root)
    found = ' '.join(lines(split))
    assert 'not one channel of one byte a pixel: ' in found and '3 channels' in found
    assert 'masks of another size than their image' in found and '80x63' in found
    assert 'missing mask files' in found
    warned = ' '.join(lines(split, 'warning'))
    assert 'masks without an image' in warned and 'masks without any class' in warned
    assert 'folder not found' in lines(check_masks('val', root / 'no', root))[0]


# ---------------------------------------------------------------------------- a folder a class


def test_folders_of_classes(tmp_path):
    for index, name in enumerate(('rose', 'rose', 'aster')):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.new('L', (8, 8), index).save(tmp_path / name / f'{index}.png')
    split = check_classes('train', tmp_path)
    assert split.findings.lines() == []
    assert dict(split.counts) == dict(aster=1, rose=2)
    (tmp_path / 'lily').mkdir()
    (tmp_path / 'lily/notes.txt').touch()
    (tmp_path / 'aster/2.png').write_bytes(b'broken')
    split = check_classes('train', tmp_path, 2)
    check_balance(split, training=True)
    found = ' '.join(split.findings.lines())
    for part in ('3 folders in', 'broken or truncated', 'no images: ', 'without images: lily'):
        assert part in found
    assert 'folder not found' in lines(check_classes('train', tmp_path / 'no'))[0]


def test_a_list_of_classified_images(tmp_path):
    (tmp_path / 'rose').mkdir()
    for index in range(3):
        Image.new('L', (8, 8), index).save(tmp_path / f'rose/{index}.png')
    listed = tmp_path / 'train.txt'
    listed.write_text('rose/0.png 1\nrose/2.png 1\n\n')
    split = check_class_list('train', tmp_path, listed, ['aster', 'rose'])
    assert split.findings.lines() == []
    assert dict(split.counts) == dict(aster=0, rose=2) and split.names == {'rose/0', 'rose/2'}
    listed.write_text('rose/0.png 2\nrose/0.png\n../a.png 0\nrose/9.png 0\n')
    found = ' '.join(check_class_list('train', tmp_path, listed, ['a', 'b']).findings.lines())
    for part in ('number of a class, 0 to 1 (2): ', 'out of the folder: ../a.png', '9.png'):
        assert part in found
    gone = check_class_list('train', tmp_path, tmp_path / 'no.txt', ['a'])
    assert 'file not found' in lines(gone)[0]


# ---------------------------------------------------------------------------- what a model gets


def spoilt(content):
    """Give eight objects of a drawn file a reason each for which MMDetection leaves them out."""
    rows, images = content['annotations'], {row['id']: row for row in content['images']}
    assert len(rows) > 9
    width = images[rows[3]['image_id']]['width']
    for row, change in zip(
        rows,
        [
            dict(ignore=1),
            dict(iscrowd=1),
            dict(bbox=[3, 3, 0.5, 9]),
            dict(bbox=[width, 3, 9, 9]),
            dict(area=0),
            dict(segmentation=[[1, 2, 3, 4]]),
            dict(ignore=True, iscrowd=1),
            dict(bbox=[-9, 3, 9, 9]),
        ],
        strict=False,
    ):
        row.update(change)


@pytest.mark.parametrize('masks', [False, True])
@pytest.mark.parametrize('min_size', [0, 64])
def test_objects_are_counted_as_mmdetection_does(copied, masks, min_size):
    from mmdet.datasets import CocoDataset
    from mmdet.datasets.transforms import LoadAnnotations

    root = copied('coco')
    split = coco(root, spoilt, masks=masks, min_size=min_size)
    data = CocoDataset(
        data_root=str(root),
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017'),
        filter_cfg=dict(filter_empty_gt=True, min_size=min_size),
        pipeline=[],
    )
    load, used = LoadAnnotations(with_bbox=True, with_mask=masks), 0
    for index in range(len(data)):
        loaded = load(dict(data.get_data_info(index), ori_shape=(64, 80)))
        used += int((~loaded['gt_ignore_flags'].astype(bool)).sum())
    total = len(json.loads((root / 'annotations/instances_train2017.json').read_text())[
        'annotations'
    ])  # fmt: skip
    assert sum(split.counts.values()) == used
    assert used + split.left_out == total
    assert used == total - 8 - masks  # one crowd is drawn
    assert coco(root, masks=masks, min_size=65).left_out == total
    (line,) = [line for line in lines(split, 'warning') if ' trained on: ' in line]
    assert '2 marked "ignore"' in line and '2 marked "iscrowd": 1' in line


def test_nothing_but_crowds(copied):
    def crowds(content):
        for row in content['annotations']:
            row['iscrowd'] = 1

    root = copied('coco')
    for split, verb in (('train', 'trained on'), ('val', 'evaluated')):
        found = coco(root, crowds, split, evaluated=split == 'val')
        (line,) = lines(found)
        assert f'boxes is {verb}: ' in line and '"iscrowd": 0 for a single object' in line
        assert sum(found.counts.values()) == 0


def test_a_few_crowds_are_ordinary(copied):
    root = copied('coco')
    few = coco(root, set_first('annotations', iscrowd=1))
    assert few.left_out == 2 and lines(few) == []
    assert not any('trained on' in line for line in lines(few, 'warning'))

    def third(content):
        for row in content['annotations'][::3]:
            row['iscrowd'] = 1

    assert any('boxes are not trained on: ' in line for line in lines(coco(root, third), 'warning'))


def test_boxes_as_shares_of_the_image(copied):
    def shares(content):
        for row in content['annotations']:
            row['bbox'] = [row['bbox'][0] / 80, row['bbox'][1] / 64, 0.3, 0.4]

    assert any('as shares of the sides of their image' in line for line in
               lines(coco(copied('coco'), shares)))  # fmt: skip


def test_difficult_objects_of_voc(copied):
    root = copied('voc') / 'VOC2007'
    listed = root / 'ImageSets/Main/trainval.txt'
    names = ('aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse '
             'motorbike person pottedplant sheep sofa train tvmonitor').split()  # fmt: skip
    before = check_voc('train', root, listed, names)
    for path in (root / 'Annotations').glob('*.xml'):
        text = path.read_text()
        assert '<difficult>0<' in text
        path.write_text(text.replace('<difficult>0<', '<difficult>1<'))
    after = check_voc('train', root, listed, names)
    total = sum(before.counts.values())
    assert total > 3 and after.left_out == total and sum(after.counts.values()) == 0
    assert any(
        f'none of {total} boxes is trained on: {total} marked "difficult"' in line
        for line in lines(after)
    )


def test_images_that_a_data_set_does_not_take(tmp_path):
    (tmp_path / 'rose').mkdir()
    for i, suffix in enumerate(('.png', '.png', '.webp', '.tiff')):
        Image.new('RGB', (40, 40), (i, 0, 0)).save(tmp_path / f'rose/{i}{suffix}')
    assert check_classes('train', tmp_path).images == 4
    host = check_classes('train', tmp_path, extensions=('.png', '.tif'))
    assert host.images == host.counts['rose'] == 2 and host.left_out == 2
    assert any('2 of 4 images are not used' in line for line in lines(host, 'warning'))
    none = check_classes('train', tmp_path, extensions=('.jpg',))
    assert any('none of 4 images ends as the data set wants: .jpg' in line for line in lines(none))


# ---------------------------------------------------------------------------- no false alarms


def test_ids_that_are_whole_numbers(copied):
    def to_floats(content):
        for table in ('images', 'categories', 'annotations'):
            for row in content[table]:
                row.update(
                    {
                        key: float(row[key])
                        for key in row
                        if key in ('id', 'image_id', 'category_id')
                    }
                )

    root = copied('coco')
    plain = coco(root)
    floats = coco(root, to_floats)
    assert lines(floats) == [] and floats.counts == plain.counts
    found = coco(root, set_first('annotations', image_id=1.5))
    assert any('boxes of images that are not listed: image 1.5' in line for line in lines(found))


def test_a_category_over_the_others(copied):
    def as_roboflow(content):
        content['categories'] = [
            dict(id=0, name='things', supercategory='none'),
            *(dict(row, supercategory='things') for row in content['categories']),
        ]

    root = copied('coco')
    plain, changed = coco(root), coco(root, as_roboflow)
    assert changed.counts == plain.counts and 'things' not in changed.counts
    used = coco(root, lambda content: content['annotations'][0].update(category_id=0))
    assert used.counts['things'] == 1
