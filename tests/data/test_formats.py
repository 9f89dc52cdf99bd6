import base64
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from mmhybrid.data.coco import DataError
from mmhybrid.data.convert import convert
from mmhybrid.data.formats import find_format, looks_like
from mmhybrid.data.formats.labelme import run_lengths

SIZE = (40, 20)
CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def picture(path, size=SIZE, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (value, 50, 90)).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding='utf-8')


def content(out, split='train'):
    """``(file, class, box, object)`` of each object, and the annotation file."""
    file = json.loads((out / f'annotations/instances_{split}.json').read_text())
    names = {row['id']: row['name'] for row in file['categories']}
    images = {row['id']: row['file_name'] for row in file['images']}
    for name in images.values():
        assert (out / 'images' / split / name).is_file()
    rows = file['annotations']
    assert len({row['id'] for row in rows}) == len(rows) and 0 not in {row['id'] for row in rows}
    return [(images[r['image_id']], names[r['category_id']], r['bbox'], r) for r in rows], file


def lines(result):
    return '\n'.join(result.findings.lines())


# ---------------------------------------------------------------------------- YOLO


def yolo(root, names='names: [car, bus]'):
    for split in ('train', 'valid'):
        for name in 'ab':
            picture(root / split / f'images/{name}.jpg')
    write(root / 'data.yaml', f'train: ../train/images\nval: ../valid/images\n{names}\n')
    write(root / 'train/labels/a.txt', '1 0.5 0.5 0.25 0.5\n0 0.1 0.1 0.3 0.1 0.3 0.5\n')
    write(root / 'train/labels/b.txt', '7 0.5 0.5 0.1 0.1\n0 0.5 0.5 0 0\n0 400 300 20 10\nx\n')
    write(root / 'valid/labels/a.txt', '0 0.5 0.5 1 1 0.9\n')
    return root


def test_yolo_boxes_and_polygons(tmp_path):
    root = yolo(tmp_path / 'in')
    assert find_format(root) == 'yolo'
    result = convert(root, tmp_path / 'out')
    (box, outline), file = content(tmp_path / 'out')
    assert box[:3] == ('a.jpg', 'bus', [15, 5, 10, 10]) and 'segmentation' not in box[3]
    assert outline[:3] == ('a.jpg', 'car', [4, 2, 8, 8])
    assert outline[3]['segmentation'] == [[4, 2, 12, 2, 12, 10]]
    assert [row['name'] for row in file['categories']] == ['car', 'bus']
    assert file['images'][1] == dict(id=2, file_name='b.jpg', width=40, height=20)
    (other,), _ = content(tmp_path / 'out', 'val')
    assert other[2] == [0, 0, 40, 20]
    assert (result.objects, result.outlines) == (3, 1)
    found = lines(result)
    assert 'numbers that are no class, left out: 7 in train/labels/b.txt:1' in found
    assert 'objects of no area, left out' in found and 'that are not numbers, left out' in found
    assert 'in fractions of the image, left out: train/labels/b.txt:3' in found
    assert 'images without a label file: taken as empty: b.jpg' in found


def test_yolo_classes(tmp_path):
    root = yolo(tmp_path / 'in', 'names: {3: car, 7: bus}')
    convert(root, tmp_path / 'out')
    objects, _ = content(tmp_path / 'out')
    assert [one[:3] for one in objects] == [('b.jpg', 'bus', [18, 9, 4, 2])]
    (root / 'data.yaml').unlink()
    with pytest.raises(DataError, match='give them in the order of their numbers with --classes'):
        convert(root, tmp_path / 'two')
    convert(root, tmp_path / 'two', classes=['car', 'bus'])
    write(root / 'classes.txt', '\ufeffcar\nbus\n')
    convert(root, tmp_path / 'three')
    assert content(tmp_path / 'two')[1] == content(tmp_path / 'three')[1]
    assert len(content(tmp_path / 'two', 'val')[0]) == 1


def test_yolo_classes_that_are_chosen(tmp_path):
    root = yolo(tmp_path / 'in')
    convert(root, tmp_path / 'out', classes=['bus'])
    objects, file = content(tmp_path / 'out')
    assert [one[1] for one in objects] == ['bus'] and len(file['categories']) == 1
    with pytest.raises(DataError, match="no 'lorry' in .*data.yaml, which names 'car', 'bus'"):
        convert(root, tmp_path / 'two', classes=['bus', 'lorry'])


@pytest.mark.parametrize('absolute', [True, False])
def test_yolo_lists_of_paths(absolute, tmp_path, monkeypatch):
    root = yolo(tmp_path / 'in')
    monkeypatch.chdir(tmp_path)
    paths = [f'train/images/{name}.jpg' for name in 'ab']
    write(root / 'train.txt', '\n'.join(f'{root}/{path}' if absolute else path for path in paths))
    write(root / 'data.yaml', 'train: train.txt\nnames: [car, bus]\n')
    result = convert('in', 'out')
    assert result.images == dict(train=2) and 'out: train/labels/b.txt:1' not in lines(result)
    assert '7 in train/labels/b.txt:1' in lines(result)


def test_yolo_settings_that_cannot_be_read(tmp_path):
    root = yolo(tmp_path / 'in', 'names: [car, bus')
    with pytest.raises(DataError, match='data.yaml is no YAML file'):
        convert(root, tmp_path / 'out')
    assert looks_like(root) is None


def test_yolo_of_cvat_and_of_ultralytics(tmp_path):
    root = tmp_path / 'cvat'
    picture(root / 'obj_train_data/deep/a.png')
    write(root / 'obj_train_data/deep/a.txt', '0 0.5 0.5 0.5 0.5')
    write(root / 'obj.names', 'car\n')
    write(root / 'train.txt', 'data/obj_train_data/deep/a.png\n')
    picture(root / 'obj_valid_data/b.png')
    write(root / 'obj_valid_data/b.txt', '0 0.5 0.5 0.5 0.5')
    assert convert(root, tmp_path / 'one').images == dict(train=1, val=1)
    assert content(tmp_path / 'one')[0][0][:3] == ('deep/a.png', 'car', [10, 5, 20, 10])
    root = tmp_path / 'ultralytics'
    for split in ('train', 'val'):
        picture(root / f'images/{split}/a.jpg')
        write(root / f'labels/{split}/a.txt', '0 0.5 0.5 0.5 0.5')
    write(
        root / 'my.yaml', 'path: ../ultralytics\ntrain: images/train\nval: images/val\nnames: [car]'
    )
    result = convert(root, tmp_path / 'two')
    assert result.images == dict(train=1, val=1)
    assert result.findings.lines() == []


# ---------------------------------------------------------------------------- Pascal VOC


def voc_xml(*objects, size=SIZE):
    text = ''.join(
        f'<object><name>{name}</name><bndbox>'
        + ''.join(f'<{k}>{v}</{k}>' for k, v in zip(CORNERS, box, strict=True))
        + '</bndbox></object>' for name, *box in objects
    )  # fmt: skip
    return (
        f'<annotation><filename>x.jpg</filename><size><width>{size[0]}</width><height>{size[1]}'
        f'</height></size>{text}</annotation>'
    )


def test_voc(tmp_path):
    root = tmp_path / 'in'
    for name in 'abcde':
        picture(root / f'JPEGImages/{name}.jpg')
    write(root / 'Annotations/a.xml', voc_xml(('cell', 5, 5, 15, 10), ('cell', 3, 3, 3, 3)))
    write(root / 'Annotations/b.xml', voc_xml(('blob', 1, 1, 60, 20)))
    write(root / 'Annotations/c.xml', voc_xml(('blob', 1, 1, 9, 9), size=(20, 40)))
    write(root / 'Annotations/d.xml', '<annotation>')
    write(root / 'Annotations/e.xml', '<!DOCTYPE a [<!ENTITY b "c">]>' + voc_xml())
    write(root / 'ImageSets/Main/train.txt', 'a\nc\nd\n')
    write(root / 'ImageSets/Main/val.txt', 'b\n')
    write(root / 'ImageSets/Main/trainval.txt', 'a\nb\nc\n')
    write(root / 'ImageSets/Main/cell_train.txt', 'b -1\n')
    assert find_format(root) == 'voc'
    result = convert(root, tmp_path / 'out')
    assert [one[:3] for one in content(tmp_path / 'out')[0]] == [('a.jpg', 'cell', [4, 4, 10, 5])]
    assert content(tmp_path / 'out', 'val')[0][0][2] == [0, 0, 40, 19]
    assert result.images == dict(train=1, val=1)
    found = lines(result)
    assert 'objects of no area, left out: [2.0, 2.0, 0.0, 0.0] in Annotations/a.xml' in found
    assert 'c.jpg has 40x20, annotated 20x40' in found
    assert 'boxes that reach out of their image, cut at its border' in found
    assert 'XML files that cannot be read (2): Annotations/d.xml' in found
    assert 'Annotations/e.xml (it defines entities)' in found
    assert 'images without an XML file, left out (2): JPEGImages/d.jpg' in found


@pytest.mark.parametrize('above', ['VOC2007', 'VOCdevkit/VOC2007'])
def test_voc_lists_of_a_folder_below(above, tmp_path):
    root = tmp_path / 'in' / above
    for name in 'ab':
        picture(root / f'JPEGImages/{name}.jpg', value=ord(name))
        write(root / f'Annotations/{name}.xml', voc_xml(('cell', 5, 5, 15, 10)))
    write(root / 'ImageSets/Main/train.txt', 'a\n')
    write(root / 'ImageSets/Main/val.txt', 'b\n')
    assert convert(tmp_path / 'in', tmp_path / 'out').images == dict(train=1, val=1)


def test_voc_lists_of_several_folders(tmp_path):
    for site, split in (('s1', 'train'), ('s2', 'val')):
        root = tmp_path / 'in' / site
        for name in ('0001', 'a b', 'rest'):
            picture(root / f'JPEGImages/{name}.jpg')
            write(root / f'Annotations/{name}.xml', voc_xml(('cell', 5, 5, 15, 10)))
        write(root / f'ImageSets/Main/{split}.txt', '0001\na b\n')
    result = convert(tmp_path / 'in', tmp_path / 'out')
    assert {one[0] for one in content(tmp_path / 'out')[0]} == {'s1/0001.jpg', 's1/a b.jpg'}
    assert {one[0] for one in content(tmp_path / 'out', 'val')[0]} == {'s2/0001.jpg', 's2/a b.jpg'}
    assert 'images in none of the lists, left out (2): s1/Annotations/rest.xml' in lines(result)


def test_voc_objects_that_are_difficult(tmp_path):
    picture(tmp_path / 'in/a.jpg')
    text = voc_xml(('cell', 5, 5, 15, 10), ('cell', 20, 5, 35, 10))
    end = text.rindex('</object>')
    write(tmp_path / 'in/a.xml', text[:end] + '<difficult>1</difficult>' + text[end:])
    result = convert(tmp_path / 'in', tmp_path / 'out')
    rows = [one[3] for one in content(tmp_path / 'out')[0]]
    assert [row['iscrowd'] for row in rows] == [0, 1] and 'ignore' not in rows[1]
    assert '1 objects marked difficult: kept as iscrowd' in lines(result)


def test_voc_outlines_are_beside_their_box(tmp_path):
    root = tmp_path / 'in'
    picture(root / 'a.jpg')
    points = ''.join(f'<x{i}>{x}</x{i}><y{i}>{y}</y{i}>'
                     for i, (x, y) in enumerate([(5, 6), (15, 6), (15, 10)], 1))  # fmt: skip
    text = voc_xml(('cell', 5, 6, 15, 10))
    write(root / 'a.xml', text.replace('</object>', f'<polygon>{points}</polygon></object>'))
    convert(root, tmp_path / 'out')
    row = content(tmp_path / 'out')[0][0][3]
    assert row['bbox'] == [4, 5, 10, 4] and row['segmentation'] == [[4, 5, 14, 5, 14, 9]]


def test_voc_boxes_are_those_of_the_host(tmp_path):
    """The same numbers from the data set that trains on VOC folders directly."""
    from mmdet.datasets import XMLDataset

    root = tmp_path / 'in'
    picture(root / 'JPEGImages/a.jpg')
    write(root / 'Annotations/a.xml', voc_xml(('cell', 5, 6, 15, 10)))
    write(root / 'all.txt', 'a\n')
    host = XMLDataset(
        data_root=str(root), ann_file='all.txt', data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=['cell']), lazy_init=True,
    )  # fmt: skip
    host.full_init()
    x0, y0, x1, y1 = host.get_data_info(0)['instances'][0]['bbox']
    convert(root, tmp_path / 'out')
    assert content(tmp_path / 'out')[0][0][2] == [x0, y0, x1 - x0, y1 - y0]


# ---------------------------------------------------------------------------- COCO


def coco(images, categories, annotations):
    return dict(
        images=[dict(id=i, file_name=name, width=40, height=20) for i, name in images],
        categories=categories,
        annotations=[dict(id=i, **row) for i, row in enumerate(annotations)],
    )


def test_coco_files_of_one_class_each(tmp_path):
    images = [(1, 'a.jpg'), (2, 'b.jpg')]
    for _, name in images:
        picture(tmp_path / 'in/images' / name)
    box = dict(bbox=[1, 1, 5, 5])
    for i, label in enumerate(('car', 'bus')):
        rows = [dict(box, bbox=[1 + i, 1, 5, 5], image_id=1, category_id=1)] * (1 + i)
        file = coco(images, [dict(id=1, name=label)], rows)
        write(tmp_path / f'in/annotations/{label}_train.json', file)
    write(tmp_path / 'in/annotations/more_train.json', file)  # the last one again
    result = convert(tmp_path / 'in', tmp_path / 'out')
    assert result.images == dict(train=2)
    assert sorted(one[:2] for one in content(tmp_path / 'out')[0]) == [
        ('a.jpg', 'bus'), ('a.jpg', 'bus'), ('a.jpg', 'car')
    ]  # fmt: skip
    assert 'images that are listed twice: one, with the objects of both' in lines(result)
    assert 'objects that are there twice, the second left out (2): a.jpg' in lines(result)


def test_outlines_of_no_area_leave_their_box(tmp_path):
    picture(tmp_path / 'in/a.jpg')
    rows = [
        dict(image_id=1, category_id=1, bbox=[1, 1, 9, 9], segmentation=outline)
        for outline in ([[]], [[1, 1, 10, 10]], [])
    ]
    write(tmp_path / 'in/a.json', coco([(1, 'a.jpg')], [dict(id=1, name='car')], rows))
    result = convert(tmp_path / 'in', tmp_path / 'out')
    objects = content(tmp_path / 'out')[0]
    assert [one[2] for one in objects] == [[1, 1, 9, 9]] * 3
    assert not any('segmentation' in one[3] for one in objects)
    assert '2 objects have no good outline, and no other has: boxes are kept' in lines(result)

    square = [[1, 1, 10, 1, 10, 10, 1, 10]]
    rows.append(dict(rows[0], segmentation=square))
    write(tmp_path / 'in/a.json', coco([(1, 'a.jpg')], [dict(id=1, name='car')], rows))
    result = convert(tmp_path / 'in', tmp_path / 'two')
    assert [one[3].get('segmentation') for one in content(tmp_path / 'two')[0]] == [None, square]
    assert '2 objects have no good outline, and others have: left out' in lines(result)


def test_panoptic_masks_of_objects_that_are_there(tmp_path):
    picture(tmp_path / 'in/images/a.jpg')
    mask = np.zeros((20, 40, 3), np.uint8)
    mask[2:8, 3:9, 0] = 7
    (tmp_path / 'in/panoptic_train').mkdir()
    Image.fromarray(mask).save(tmp_path / 'in/panoptic_train/a.png')
    names = [dict(id=1, name='car', isthing=1)]
    segments = dict(segments_info=[dict(id=7, category_id=1, iscrowd=0)], file_name='a.png')
    whole = coco([(1, 'a.jpg')], names, [dict(segments, image_id=1)])
    write(tmp_path / 'in/panoptic_train.json', whole)
    rows = [dict(image_id=1, category_id=1, bbox=[3.2, 2.1, 5.9, 5.7])]
    write(tmp_path / 'in/z_instances_train.json', coco([(1, 'a.jpg')], names, rows))
    result = convert(tmp_path / 'in', tmp_path / 'out')
    assert [one[2] for one in content(tmp_path / 'out')[0]] == [[3.2, 2.1, 5.9, 5.7]]
    assert 'panoptic masks of images with objects in another file: a.jpg' in lines(result)


def test_an_outline_of_a_second_file_joins_its_box(tmp_path):
    picture(tmp_path / 'in/images/a.jpg')
    outline = [[1, 1, 6, 1, 6, 6, 1, 6]]
    row = dict(image_id=1, category_id=1, bbox=[1, 1, 5, 5])
    for name, rows in (('boxes', [row]), ('masks', [dict(row, segmentation=outline)])):
        write(
            tmp_path / f'in/{name}_train.json', coco([(1, 'a.jpg')], [dict(id=1, name='car')], rows)
        )
    convert(tmp_path / 'in', tmp_path / 'out')
    ((*_, row),) = content(tmp_path / 'out')[0]
    assert row['segmentation'] == outline and row['area'] == 25


def test_coco_of_cvat_keeps_painted_masks(tmp_path):
    root = tmp_path / 'in'
    picture(root / 'images/default/a.jpg')
    mask = np.zeros(SIZE[::-1], bool)
    mask[5:15, 10:20] = True
    mask[8, 12] = False
    painted = dict(
        image_id=1, category_id=2, iscrowd=1, area=1, bbox=[10, 5, 10, 10],
        segmentation=run_lengths(mask), attributes=dict(occluded=False),
    )  # fmt: skip
    real = dict(
        painted, attributes=dict(colour='red'), segmentation=run_lengths(~mask), bbox=[0, 0, 40, 20]
    )
    drawn = dict(
        image_id=1, category_id=1, iscrowd=0, bbox=[1, 1, 4, 4],
        segmentation=[[1, 1, 5, 1, 5, 5], [30, 1, 35, 1, 35, 9]],
    )  # fmt: skip
    categories = [dict(id=1, name='car', supercategory=''), dict(id=2, name='bus')]
    write(
        root / 'annotations/instances_default.json',
        coco([(1, 'a.jpg')], categories, [painted, drawn, real]),
    )
    assert find_format(root) == 'coco'
    result = convert(root, tmp_path / 'out')
    objects, _ = content(tmp_path / 'out')
    bus, car, crowd = (one[3] for one in objects)
    code = coco_masks.frPyObjects(bus['segmentation'], 20, 40)
    assert (coco_masks.decode(code) == mask).all() and bus['area'] == 99 and bus['iscrowd'] == 0
    assert car['segmentation'] == drawn['segmentation']
    assert crowd['iscrowd'] == 1
    assert '1 painted masks that CVAT marks as crowds became objects' in lines(result)
    assert '1 objects marked iscrowd or ignore' in lines(result)


def test_panoptic_coco_gives_its_things(tmp_path):
    root = tmp_path / 'in'
    picture(root / 'val2017/a.jpg')
    numbers = np.zeros(SIZE[::-1], int)
    numbers[2:8, 3:9] = 1 + 256 * 7
    numbers[10:12, 20:30] = 2
    numbers[15:] = 65536
    colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1)
    mask = root / 'annotations/panoptic_val2017/a.png'
    mask.parent.mkdir(parents=True)
    Image.fromarray(colours.astype(np.uint8)).save(mask)
    segments = [
        dict(id=1 + 256 * 7, category_id=1), dict(id=2, category_id=1, iscrowd=1),
        dict(id=65536, category_id=9), dict(id=77, category_id=1),
    ]  # fmt: skip
    rows = [dict(image_id=1, file_name='a.png', segments_info=segments),
            dict(image_id=1, file_name='../../b.png', segments_info=segments)]  # fmt: skip
    categories = [dict(id=1, name='car', isthing=1), dict(id=9, name='road', isthing=0)]
    file = coco([(1, 'a.jpg')], categories, rows)
    write(root / 'annotations/panoptic_val2017.json', file)
    result = convert(root, tmp_path / 'out')
    (car, crowd), made = content(tmp_path / 'out', 'val')
    assert [row['name'] for row in made['categories']] == ['car']
    assert car[:3] == ('a.jpg', 'car', [3, 2, 6, 6])
    assert (coco_masks.decode(car[3]['segmentation']) == (numbers == 1 + 256 * 7)).all()
    assert car[3]['iscrowd'] == 0 and crowd[3]['iscrowd'] == 1
    found = lines(result)
    assert 'error' not in found  # the folder was written
    assert '1 segments of stuff in panoptic_val2017.json, no objects: left out' in found
    assert 'objects of no area, left out: [0.0, 0.0, 0.0, 0.0] in segment 77 of a.jpg' in found
    assert 'masks whose name leads out of their folder' in found


def test_other_formats_in_a_folder_are_said(tmp_path):
    root = yolo(tmp_path / 'in')
    result = convert(root, tmp_path / 'one')
    assert 'too, which is not read' not in lines(result)
    file = coco([(1, 'a.jpg')], [dict(id=1, name='car')], [])
    file['annotations'] = [dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 5, 5])]
    write(root / 'valid/labels.json', file)
    result = convert(root, tmp_path / 'two')
    assert result.source == 'COCO'
    assert 'holds YOLO too, which is not read: --format yolo, or give' in lines(result)
    result = convert(root, tmp_path / 'three', 'yolo')
    assert result.objects == 3 and 'too, which is not read' not in lines(result)


def test_masks_are_not_taken_for_their_images(tmp_path):
    """Files of the same names lie beside images that are not there."""
    root = tmp_path / 'in'
    for folder in ('annotations/panoptic_val2017', 'masks', 'SegmentationObject'):
        shutil.rmtree(root, ignore_errors=True)
        picture(root / folder / 'a.png')
        row = dict(image_id=1, category_id=1, bbox=[1, 1, 5, 5])
        file = coco([(1, 'a.jpg'), (2, 'a.png')], [dict(id=1, name='car')], [row])
        write(root / 'annotations/panoptic_val2017.json', file)
        with pytest.raises(DataError, match=r'listed and not there \(2\): a.jpg, a.png'):
            convert(root, tmp_path / 'out')
        picture(root / 'elsewhere/a.png')
        assert convert(root, tmp_path / 'out').objects == 1
        shutil.rmtree(tmp_path / 'out')


def test_coco_by_the_names_of_files(tmp_path):
    root = tmp_path / 'in'
    for split in ('train', 'val'):
        picture(root / f'images/{split}/a.jpg')
        row = dict(image_id=1, category_id=1, ignore=1, segmentation=[1, 1, 50, 1, 50, 9])
        file = coco([(1, 'a.jpg')], [dict(id=1, name='car')], [row])
        write(root / f'annotations/instances_{split}.json', file)
    result = convert(root, tmp_path / 'out')
    assert result.images == dict(train=1, val=1)
    row = content(tmp_path / 'out', 'val')[0][0][3]
    assert row['segmentation'] == [[1, 1, 40, 1, 40, 9]] and row['bbox'] == [1, 1, 39, 8]
    assert row['ignore'] == 1


def test_coco_masks_that_are_none(tmp_path):
    root = tmp_path / 'in'
    for folder in ('a', 'b', ''):
        picture(root / folder / 'twice.jpg' if folder else root / 'one.jpg')
    codes = [dict(size=[40, 20], counts=[800]), dict(size=[20, 40], counts=[100, 5])]
    outlines = [*codes, [[1, 1, 5, 5, 9, 9]], [[1, 1, 5, 1, 5, 5]]]
    rows = [dict(image_id=1, category_id=1, segmentation=outline) for outline in outlines]
    images = [(1, 'one.jpg'), (2, 'elsewhere/twice.jpg')]
    write(root / 'all.json', coco(images, [dict(id=1, name='car')], rows))
    (root / 'loop').symlink_to(root, target_is_directory=True)
    result = convert(root, tmp_path / 'out')
    found = lines(result)
    assert result.objects == 1 and result.images == dict(train=1)
    for text in (
        'masks of another size than their image', 'run lengths that do not fill the image',
        'objects of no area', 'listed and not there: elsewhere/twice.jpg',
    ):  # fmt: skip
        assert text in found


def test_coco_of_roboflow(tmp_path):
    root = tmp_path / 'in'
    categories = [
        dict(id=0, name='cells', supercategory='none'),
        dict(id=1, name='RBC', supercategory='cells'),
        dict(id=2, name='WBC', supercategory='cells'),
    ]
    for split in ('train', 'valid', 'test'):
        picture(root / split / 'a_jpg.rf.1.jpg')
        row = dict(
            image_id=0, category_id=2, bbox=[1, 2, 3, 4], area=12, segmentation=[], iscrowd=0
        )
        file = coco([(0, 'a_jpg.rf.1.jpg')], categories, [row])
        write(root / split / '_annotations.coco.json', file)
    result = convert(root, tmp_path / 'out')
    assert result.images == dict(train=1, val=1, test=1)
    objects, file = content(tmp_path / 'out', 'val')
    assert objects[0][:3] == ('a_jpg.rf.1.jpg', 'WBC', [1, 2, 3, 4])
    assert [row['name'] for row in file['categories']] == ['RBC', 'WBC']
    assert 'categories above the others' in lines(result)


def test_coco_of_label_studio(tmp_path):
    root = tmp_path / 'in'
    picture(root / 'images/1a-photo.png')
    rows = [
        dict(image_id=0, category_id=0, bbox=[1, 2, 3, 4], area=12, segmentation=[], ignore=0),
        dict(image_id=1, category_id=0, bbox=[1, 2, 3, 4], area=12, segmentation=[], ignore=0),
    ]
    images = [(0, 'images\\1a-photo.png'), (1, '../../data/upload/3/gone.png')]
    write(root / 'result.json', coco(images, [dict(id=0, name='car')], rows))
    result = convert(root, tmp_path / 'out')
    assert [one[:3] for one in content(tmp_path / 'out')[0]] == [
        ('1a-photo.png', 'car', [1, 2, 3, 4])
    ]
    assert 'images that are listed and not there: ../../data/upload/3/gone.png' in lines(result)
    assert 'objects of images that are not there: annotation 1' in lines(result)


# ---------------------------------------------------------------------------- labelme


def test_labelme(tmp_path):
    root = tmp_path / 'in'
    picture(root / 'a.jpg')
    picture(root / 'b.jpg')
    patch = np.zeros((4, 3), np.uint8)
    patch[1:, :2] = 1
    buffer = io.BytesIO()
    Image.fromarray(patch).save(buffer, 'PNG')
    shapes = [
        dict(label='car', shape_type='rectangle', points=[[9, 8], [3, 2]]),
        dict(label='bus', shape_type='polygon', points=[[1, 1], [5, 1], [5, 5]], group_id=1),
        dict(label='bus', shape_type='polygon', points=[[11, 1], [15, 1], [15, 9]], group_id=1),
        dict(label='disc', shape_type='circle', points=[[20, 10], [25, 10]]),
        dict(
            label='blot', shape_type='mask', points=[[30, 5], [32, 8]],
            mask=base64.b64encode(buffer.getvalue()).decode(),
        ),
        dict(label='line', shape_type='line', points=[[1, 1], [2, 2]]),
        dict(label='bad', shape_type='polygon', points=[[1, 1]]),
        dict(label='__ignore__', shape_type='polygon', points=[[1, 1], [5, 1], [5, 5]]),
    ]  # fmt: skip
    write(
        root / 'a.json',
        dict(version='5', flags={}, shapes=shapes, imagePath='..\\x\\a.jpg', imageWidth=40,
             imageHeight=20),
    )  # fmt: skip
    assert find_format(root) == 'labelme'
    result = convert(root, tmp_path / 'out')
    objects = {label: (box, row) for _, label, box, row in content(tmp_path / 'out')[0]}
    assert objects['car'][0] == [3, 2, 6, 6] and 'segmentation' not in objects['car'][1]
    assert objects['bus'][0] == [1, 1, 14, 8] and len(objects['bus'][1]['segmentation']) == 2
    assert objects['disc'][0] == [15, 5, 10, 10]
    code = coco_masks.frPyObjects(objects['blot'][1]['segmentation'], 20, 40)
    whole = np.zeros((20, 40), np.uint8)
    whole[5:9, 30:33] = patch
    assert (coco_masks.decode(code) == whole).all() and objects['blot'][0] == [30, 6, 2, 3]
    assert result.objects == 4
    assert 'shapes called __ignore__, left out: a.json' in lines(result)
    assert 'shapes that enclose nothing, left out: line in a.json' in lines(result)
    assert 'images without a JSON file, left out: b.jpg' in lines(result)


# ---------------------------------------------------------------------------- masks of colours


def test_colours_become_numbers(tmp_path):
    root = tmp_path / 'in'
    mask = np.zeros((20, 40, 3), np.uint8)
    mask[:10] = (128, 64, 128)
    mask[:, 35:] = (9, 9, 9)
    mask[0, 0] = (1, 2, 3)
    for folder, masks in (('train', 'train_labels'), ('val', 'val_labels')):
        picture(root / folder / 'a.png')
        (root / masks).mkdir(parents=True)
        Image.fromarray(mask).save(root / masks / 'a_L.png')
    assert find_format(root) == 'colours'
    with pytest.raises(DataError, match='--colours FILE. The first masks hold .*128 64 128'):
        convert(root, tmp_path / 'out')
    write(tmp_path / 'table.txt', '# name r g b\nsky 0 0 0\nroad\t128 64 128\nvoid 9 9 9\n')
    result = convert(root, tmp_path / 'out', colour_table=tmp_path / 'table.txt')
    numbers = np.asarray(Image.open(tmp_path / 'out/annotations/train/a.png'))
    expected = np.zeros((20, 40), np.uint8)
    expected[:10] = 1
    expected[:, 35:] = expected[0, 0] = 255
    assert (numbers == expected).all()
    assert (tmp_path / 'out/classes.txt').read_text() == 'sky\nroad\n'
    assert (tmp_path / 'out/images/val/a.png').is_file()
    assert 'colours that the table does not name, which become 255 (2)' in lines(result)
    with pytest.raises(DataError, match='--classes: masks of colours'):
        convert(root, tmp_path / 'two', classes=['sky'])
    with pytest.raises(DataError, match='--colours table.txt: YOLO has no colours'):
        convert(root, tmp_path / 'two', 'yolo', colour_table='table.txt')
    write(root / 'class_dict.csv', 'name,r,g,b\nroad,128,64,128\nsky,0,0,0\n')
    convert(root, tmp_path / 'two')
    assert (tmp_path / 'two/classes.txt').read_text() == 'road\nsky\n'


@pytest.mark.parametrize('images', ['images', 'photos'])
def test_masks_of_one_name_in_several_folders(images, tmp_path):
    for i, camera in enumerate(('cam0', 'cam1', 'cam2')):
        for name in ('0', '1'):
            picture(tmp_path / f'in/{images}/{camera}/{name}.jpg', value=i)
            if camera != 'cam0':
                mask = tmp_path / f'in/masks/{camera}/{name}.png'
                mask.parent.mkdir(parents=True, exist_ok=True)
                Image.new('RGB', SIZE, (i, 0, 0)).save(mask)
    write(tmp_path / 'in/label_colors.txt', '1 0 0 one\n2 0 0 two\n0 0 0 Void\n')
    result = convert(tmp_path / 'in', tmp_path / 'out')
    assert (tmp_path / 'out/classes.txt').read_text() == 'one\ntwo\n'
    assert result.images == dict(train=4)
    for path in (tmp_path / 'out/annotations/train').rglob('*.png'):
        assert (np.asarray(Image.open(path)) == int(path.parent.name[-1]) - 1).all()
    assert 'images without a mask, left out (2)' in lines(result) and 'cam0/0.jpg' in lines(result)


def test_an_image_with_two_masks_takes_the_first(tmp_path):
    picture(tmp_path / 'in/rgb/1.jpg')
    for folder in ('labels', 'masks'):
        (tmp_path / 'in' / folder).mkdir()
        Image.new('RGB', SIZE, (1, 0, 0)).save(tmp_path / 'in' / folder / '1.png')
    write(tmp_path / 'in/label_colors.txt', '1 0 0 one\n2 0 0 two\n')
    result = convert(tmp_path / 'in', tmp_path / 'out')
    assert result.images == dict(train=1)
    assert 'masks without an image, left out: masks/1.png' in lines(result)


@pytest.mark.parametrize('images', ['JPEGImages', 'images'])
def test_masks_of_cvat(images, tmp_path):
    root = tmp_path / 'in'
    picture(root / images / 'a.jpg', value=9)
    for folder in ('SegmentationClass', 'SegmentationObject'):
        (root / folder).mkdir()
        Image.new('RGB', SIZE, (250, 50, 83)).save(root / folder / 'a.png')
    write(root / 'labelmap.txt', '# label:color_rgb:parts:actions\nbackground:0,0,0::\n'
          'crack:250,50,83::\n')  # fmt: skip
    write(root / 'ImageSets/Segmentation/default.txt', 'a\n')
    convert(root, tmp_path / 'out')
    assert (np.asarray(Image.open(tmp_path / 'out/annotations/train/a.png')) == 1).all()
    assert Image.open(tmp_path / 'out/images/train/a.jpg').getpixel((0, 0))[0] < 20
    write(root / 'labelmap.txt', 'crack:250,50,83::\nhole:250,50,83::\n')
    with pytest.raises(DataError, match='no name or two'):
        convert(root, tmp_path / 'two')


# ---------------------------------------------------------------------------- all


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path):
    root = yolo(tmp_path / 'in')
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    write(tmp_path / 'out/mine.txt', 'x')
    with pytest.raises(FileExistsError, match='is there already'):
        convert(root, tmp_path / 'out')
    with pytest.raises(DataError, match='lies in'):
        convert(root, root / 'new')
    with pytest.raises(DataError, match='folder not found'):
        convert(tmp_path / 'nowhere', tmp_path / 'new')
    for split in ('train', 'valid'):
        for label in (root / split / 'labels').iterdir():
            label.write_text('')
    with pytest.raises(DataError, match='no objects left of 4 images'):
        convert(root, tmp_path / 'new')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in', 'out']
    assert before.keys() == set(root.rglob('*'))
    with pytest.raises(DataError, match='holds nothing: no YOLO'):
        (tmp_path / 'empty').mkdir()
        convert(tmp_path / 'empty', tmp_path / 'new')


def test_a_validation_part_that_is_missing(tmp_path):
    for i in range(10):
        picture(tmp_path / f'in/{i}.jpg', value=i)
        write(tmp_path / f'in/{i}.xml', voc_xml(('cell', 5, 5, 15, 10)))
    result = convert(tmp_path / 'in', tmp_path / 'out', val_fraction=0.2)
    assert result.images == dict(train=8, val=2)
    train, val = (
        {one[0] for one in content(tmp_path / 'out', split)[0]} for split in ('train', 'val')
    )
    assert len(train | val) == 10 and not train & val
    with pytest.raises(DataError, match='--val-fraction 0.2: the folder has a validation part'):
        convert(yolo(tmp_path / 'yolo'), tmp_path / 'new', val_fraction=0.2)
    with pytest.raises(DataError, match='--val-fraction 2.0: expected a number between 0 and 1'):
        convert(tmp_path / 'in', tmp_path / 'new', val_fraction=2.0)


def test_names_that_are_used_twice_are_told_apart(tmp_path):
    for camera in ('left', 'right'):
        folder = tmp_path / 'in' / camera / 'images'
        picture(folder / 'a.jpg')
        write(tmp_path / 'in' / camera / 'labels/a.txt', '0 0.5 0.5 0.5 0.5')
    write(tmp_path / 'in/classes.txt', 'car\n')
    convert(tmp_path / 'in', tmp_path / 'out')
    assert [one[0] for one in content(tmp_path / 'out')[0]] == ['left/a.jpg', 'right/a.jpg']
    write(tmp_path / 'in/data.yaml', 'train: [left/images, right/images]\nnames: [car]\n')
    convert(tmp_path / 'in', tmp_path / 'two')
    assert [one[0] for one in content(tmp_path / 'two')[0]] == ['a.jpg', 'a_2.jpg']
    parts = []
    for place in ('in', 'elsewhere'):  # the choice follows from names alone
        if place != 'in':
            shutil.copytree(tmp_path / 'in', tmp_path / place)
        out = tmp_path / f'{place}_split'
        assert convert(tmp_path / place, out, val_fraction=0.5).images == dict(train=1, val=1)
        parts.append([content(out, split)[0] for split in ('train', 'val')])
    assert parts[0] == parts[1]


def test_a_folder_names_its_format(tmp_path):
    root = yolo(tmp_path / 'in')
    assert looks_like(root).startswith(f'{root} looks like YOLO: convert it with "mmhybrid data')
    convert(root, tmp_path / 'out')
    assert looks_like(tmp_path / 'out') is None
    assert looks_like(tmp_path / 'nowhere') is None
    (tmp_path / 'empty').mkdir()
    assert looks_like(tmp_path / 'empty') is None


def test_the_command(tmp_path, capsys):
    from mmhybrid.cli.data import main

    root = yolo(tmp_path / 'in')
    main(['convert', str(root), str(tmp_path / 'out')])
    printed = capsys.readouterr().out
    assert (
        'train: 2 images, 2 objects' in printed
        and 'mmhybrid train retinanet_cmt_ti_custom' in printed
    )
    assert '2 of 3 objects have no outline' in printed and 'left out' in printed
    with pytest.raises(FileExistsError, match='give a folder that is new'):
        main(['convert', str(root), str(tmp_path / 'out')])
