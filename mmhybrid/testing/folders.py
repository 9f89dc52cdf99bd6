"""Tiny folders in the layouts of public data sets, drawn by code.

A config runs on such a folder as it runs on the data set, with only its data root changed: the same
file names, annotation formats and class lists, so the same pipelines, data set classes and metrics.
The images are those of the demo data set. Everything follows from the seed.

    python -m mmhybrid.testing.folders coco data/tiny/coco
    python tools/train.py maskrcnn_vitcomer_t --cfg-options data_root=data/tiny/coco ...

    python -m mmhybrid.testing.folders all data/tiny      # each where the configs expect it:
    MMHYBRID_DATA=data/tiny python tools/train.py upernet_cmt_s

The class lists are those of the host libraries, which must be installed for the layouts that hold
names: mmdet for COCO, LVIS and VOC.
"""

import argparse
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from mmhybrid.data import shapes
from mmhybrid.data.demo import draw_crop, draw_scene
from mmhybrid.files import write_atomically

Size = tuple[int, int]  # width and height

SHAPES = len(shapes.OUTLINES)
# COCO numbers its 80 categories to 90, without these.
COCO_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
IMAGENET_CLASSES = 1000


def draw_folder(
    name: str,
    root: str | Path,
    train: int | None = None,
    val: int | None = None,
    size: Size = (128, 96),
    seed: int = 0,
) -> None:
    """Draw the folder of a data set.

    It is drawn into a sibling folder that is renamed when complete.

    Args:
        name: one of ``LAYOUTS``.
        root: the folder to make, a config's ``data_root``.
        train, val: images in each split; of each class for ImageNet, of each file for CIFAR.
            Default 4 and 2, for ImageNet 1 and 1.
        size: (width, height) of an image, at least 64 each; CIFAR's images have 32.
        seed: of every choice.

    Raises:
        ValueError: an argument out of range.
        FileExistsError: ``root`` is there and not empty.
    """
    if name not in LAYOUTS:
        raise ValueError(f'{name!r} is no layout that can be drawn: expected {", ".join(LAYOUTS)}')
    usual = (1, 1) if name == 'imagenet' else (4, 2)
    train, val = (count if given is None else given for given, count in zip(
        (train, val), usual, strict=True
    ))  # fmt: skip
    if min(train, val) < 1 or min(size) < 64 or seed < 0:
        raise ValueError(
            f'{train} training and {val} validation images of size {tuple(size)}, seed {seed}: '
            'expected at least 1, 1, 64x64 and 0'
        )
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(f'{root} is there already: give a folder that is new or empty')
    with write_atomically(root) as draft:
        draft.mkdir()
        LAYOUTS[name](draft, train, val, tuple(size), seed)


# ---------------------------------------------------------------------------- COCO and LVIS


def draw_coco(root: Path, train: int, val: int, size: Size, seed: int) -> None:
    """COCO 2017: images in {train,val}2017, annotations/instances_{train,val}2017.json."""
    names = _class_names('mmdet', 'CocoDataset')
    ids = [id_ for id_ in range(1, 91) if id_ not in COCO_UNUSED_IDS]
    categories = [
        dict(supercategory='shape', id=id_, name=name) for id_, name in zip(ids, names, strict=True)
    ]
    for split, count in (('train', train), ('val', val)):
        images: list[dict] = []
        annotations: list[dict] = []
        for id_, image, masks, labels in _scenes(split, count, size, seed):
            file_name = f'{id_:012d}.jpg'
            _write_image(root / f'{split}2017' / file_name, image)
            images.append(_coco_image(id_, file_name, split, size))
            for mask, label in zip(masks, labels, strict=True):
                one = _coco_annotation(mask, id_, ids[_spread(label, len(ids))])
                annotations.append(dict(one, iscrowd=0, id=len(annotations) + 1))
        # A crowd: run lengths instead of outlines, and no match is asked for.
        crowd = dict(
            segmentation=dict(counts=[0, 8, size[0] * size[1] - 8], size=[size[1], size[0]]),
            area=8,
            iscrowd=1,
            image_id=images[0]['id'],
            bbox=[0, 0, 1, 8],
            category_id=ids[0],
            id=len(annotations) + 1,
        )
        _write_json(
            root / f'annotations/instances_{split}2017.json',
            dict(
                info=dict(description='drawn in the layout of COCO 2017'),
                licenses=[],
                images=images,
                annotations=[*annotations, crowd],
                categories=categories,
            ),
        )


def draw_lvis(root: Path, train: int, val: int, size: Size, seed: int) -> None:
    """LVIS v1: COCO's images and annotations/lvis_v1_{train,val}.json."""
    names = _class_names('mmdet', 'LVISV1Dataset')
    for split, count in (('train', train), ('val', val)):
        images: list[dict] = []
        annotations: list[dict] = []
        for id_, image, masks, labels in _scenes(split, count, size, seed):
            file_name = f'{id_:012d}.jpg'
            _write_image(root / f'{split}2017' / file_name, image)
            absent = len(names)  # a class that was looked for and not found
            entry = _coco_image(id_, file_name, split, size)
            del entry['file_name']  # LVIS tells it in coco_url
            images.append(dict(entry, neg_category_ids=[absent], not_exhaustive_category_ids=[]))
            for mask, label in zip(masks, labels, strict=True):
                one = _coco_annotation(mask, id_, 1 + _spread(label, len(names)))
                annotations.append(dict(one, id=len(annotations) + 1))
        categories = []
        for id_, name in enumerate(names, 1):
            own = [one for one in annotations if one['category_id'] == id_]
            in_images = len({one['image_id'] for one in own})
            categories.append(
                dict(
                    id=id_,
                    name=name,
                    synset=f'{name}.n.01',
                    synonyms=[name],
                    frequency='rcf'[id_ % 3],
                    image_count=in_images,
                    instance_count=len(own),
                )
            )
            categories[-1]['def'] = 'a shape cut out of paper'
        _write_json(
            root / f'annotations/lvis_v1_{split}.json',
            dict(
                info=dict(description='drawn in the layout of LVIS v1'),
                licenses=[],
                images=images,
                annotations=annotations,
                categories=categories,
            ),
        )


def _coco_image(id_, file_name, split, size):
    return dict(
        license=1,
        file_name=file_name,
        coco_url=f'http://images.cocodataset.org/{split}2017/{file_name}',
        height=size[1],
        width=size[0],
        date_captured='2000-01-01 00:00:00',
        flickr_url='',
        id=id_,
    )


def _coco_annotation(mask, image_id, category_id):
    """Outlines, area and box of a mask, all of the same pixels."""
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    contours = [contour for contour in contours if len(contour) > 2]
    filled = cv2.fillPoly(np.zeros(mask.shape, np.uint8), contours, 1)
    return dict(
        segmentation=[[float(v) for v in contour.ravel()] for contour in contours],
        area=float(filled.sum()),
        image_id=image_id,
        bbox=[float(v) for v in cv2.boundingRect(filled)],
        category_id=category_id,
    )


# ---------------------------------------------------------------------------- Pascal VOC


def draw_voc(root: Path, train: int, val: int, size: Size, seed: int) -> None:
    """Pascal VOC 2007 and 2012: boxes as XML, class maps as PNG with a palette, lists of names."""
    names = _class_names('mmdet', 'VOCDataset')
    for year in (2007, 2012):
        lists: dict[str, list] = {}
        folder = root / f'VOC{year}'
        for split, count in (('train', train), ('val', val), ('test', val)):
            if (year, split) == (2012, 'test'):  # whose annotations are kept secret
                continue
            lists[split] = []
            for id_, image, masks, labels in _scenes(split, count, size, seed + year):
                stem = f'{id_:06d}' if year == 2007 else f'{year}_{id_:06d}'
                lists[split].append(stem)
                _write_image(folder / f'JPEGImages/{stem}.jpg', image)
                classes = [_spread(label, len(names)) for label in labels]
                _write_voc_boxes(folder, stem, size, masks, [names[i] for i in classes])
                values = [1 + i for i in classes]
                class_map = _class_map(masks, values, background=0)
                class_map[_edges(masks)] = 255
                _write_palette(folder / f'SegmentationClass/{stem}.png', class_map)
                object_map = _class_map(masks, range(1, len(masks) + 1), background=0)
                object_map[_edges(masks)] = 255
                _write_palette(folder / f'SegmentationObject/{stem}.png', object_map)
        lists['trainval'] = lists['train'] + lists['val']
        for part in ('Main', 'Segmentation'):
            for split, stems in lists.items():
                path = folder / f'ImageSets/{part}/{split}.txt'
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(''.join(f'{stem}\n' for stem in stems))


def _write_voc_boxes(folder, stem, size, masks, names):
    root = ElementTree.Element('annotation')

    def add(parent, **texts):
        for tag, text in texts.items():
            ElementTree.SubElement(parent, tag).text = str(text)

    add(root, folder=folder.name, filename=f'{stem}.jpg')
    add(ElementTree.SubElement(root, 'size'), width=size[0], height=size[1], depth=3)
    add(root, segmented=1)
    for mask, name in zip(masks, names, strict=True):
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        one = ElementTree.SubElement(root, 'object')
        add(one, name=name, pose='Unspecified', truncated=0, difficult=0)
        box = ElementTree.SubElement(one, 'bndbox')  # counted from 1, both corners inside
        add(box, xmin=x + 1, ymin=y + 1, xmax=x + width, ymax=y + height)
    path = folder / f'Annotations/{stem}.xml'
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(path)


def _edges(masks):
    """The pixels between objects and background, which VOC leaves open."""
    union = np.any(masks, axis=0).astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    return cv2.dilate(union, kernel) != cv2.erode(union, kernel)


def _write_palette(path, class_map):
    """A PNG of palette indices, with VOC's colours: the bits of an index, spread over RGB."""
    from PIL import Image

    index = np.arange(256)
    bits = [(index[:, None] >> np.arange(channel, 8, 3)) & 1 for channel in range(3)]
    colors = [(bit << (7 - np.arange(bit.shape[1]))).sum(1) for bit in bits]
    image = Image.fromarray(class_map)
    image.putpalette(np.stack(colors, axis=1).astype(np.uint8).tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


# ---------------------------------------------------------------------------- class maps


def draw_ade20k(root: Path, train: int, val: int, size: Size, seed: int) -> None:
    """ADE20K: classes from 1, 0 where there is none."""
    for split, folder, count in (('train', 'training', train), ('val', 'validation', val)):
        for id_, image, masks, labels in _scenes(split, count, size, seed):
            stem = f'ADE_{split}_{id_:08d}'
            _write_image(root / f'images/{folder}/{stem}.jpg', image)
            class_map = _open_map(masks, labels, classes=150) + 1  # 255 becomes 0
            _write_image(root / f'annotations/{folder}/{stem}.png', class_map)


def draw_cityscapes(root: Path, train: int, val: int, size: Size, seed: int) -> None:
    """Cityscapes: a folder a city, maps of the 19 classes and of the 34 labels they come from."""
    # Label of each of the 19 classes; 0 is "unlabeled".
    label_ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    table = np.zeros(256, np.uint8)
    table[: len(label_ids)] = label_ids
    for split, city, count in (('train', 'aachen', train), ('val', 'frankfurt', val)):
        for id_, image, masks, labels in _scenes(split, count, size, seed):
            stem = f'{city}_{id_:06d}_000019'
            class_map = _open_map(masks, labels, classes=19)
            for path, content in (
                (f'leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png', image),
                (f'gtFine/{split}/{city}/{stem}_gtFine_labelTrainIds.png', class_map),
                (f'gtFine/{split}/{city}/{stem}_gtFine_labelIds.png', table[class_map]),
            ):
                _write_image(root / path, content)


def draw_cocostuff(root: Path, train: int, val: int, size: Size, seed: int) -> None:
    """COCO-Stuff 164k as MMSegmentation converts it."""
    for split, count in (('train', train), ('val', val)):
        for id_, image, masks, labels in _scenes(split, count, size, seed):
            stem = f'{id_:012d}'
            _write_image(root / f'images/{split}2017/{stem}.jpg', image)
            class_map = _open_map(masks, labels, classes=171)
            path = root / f'annotations/{split}2017/{stem}_labelTrainIds.png'
            _write_image(path, class_map)


def _class_map(masks, values, background):
    class_map = np.full(masks.shape[1:], background, np.uint8)
    for mask, value in zip(masks, values, strict=True):
        class_map[mask] = value
    return class_map


def _open_map(masks, labels, classes):
    """The background is class 0, shapes are spread over the others, the first rows are open."""
    values = [1 + _spread(label, classes - 1) for label in labels]
    class_map = _class_map(masks, values, background=0)
    class_map[:3] = 255
    return class_map


# ---------------------------------------------------------------------------- classification


def draw_imagenet(root: Path, train: int, val: int, size: Size, seed: int) -> None:
    """ImageNet: a folder for each of 1000 classes; their names are made up, like n00000042."""
    crops = [
        draw_crop(np.random.default_rng((seed, index)), index % SHAPES, min(size))
        for index in range(10 * SHAPES)
    ]
    for split, count in (('train', train), ('val', val)):
        for label in range(IMAGENET_CLASSES):
            name = f'n{label:08d}'
            for index in range(count):
                path = root / split / name / f'{name}_{index}.JPEG'
                _write_image(path, crops[(label + index) % len(crops)])


def draw_cifar10(root: Path, train: int, val: int, size: Size, seed: int) -> None:
    """CIFAR-10: five batches and a test batch, pickled."""
    files = [(f'data_batch_{i}', train) for i in range(1, 6)] + [('test_batch', val)]
    folder = root / 'cifar-10-batches-py'
    for index, (name, count) in enumerate(files):
        data, labels = _cifar_images(count, (seed, index))
        labels = [_spread(label, 10) for label in labels]
        _write_pickle(folder / name, dict(batch_label=name, labels=labels, data=data))
    names = [f'class {label}' for label in range(10)]
    _write_pickle(folder / 'batches.meta', dict(label_names=names, num_vis=3072))
    _write_json(folder / DRAWN, dict(layout='CIFAR-10'))


def draw_cifar100(root: Path, train: int, val: int, size: Size, seed: int) -> None:
    """CIFAR-100: a training and a test file, pickled."""
    folder = root / 'cifar-100-python'
    for index, (name, count) in enumerate((('train', train), ('test', val))):
        data, labels = _cifar_images(count, (seed, index))
        fine = [_spread(label, 100) for label in labels]
        coarse = [_spread(label, 20) for label in labels]
        _write_pickle(folder / name, dict(fine_labels=fine, coarse_labels=coarse, data=data))
    names = [f'class {label}' for label in range(100)]
    _write_pickle(folder / 'meta', dict(fine_label_names=names))
    _write_json(folder / DRAWN, dict(layout='CIFAR-100'))


# mmhybrid.CIFAR10 knows a drawn folder by this file, and the published ones by their sums.
DRAWN = 'drawn.json'


def _cifar_images(count, seed):
    """(count, 3072) uint8, the planes of red, green and blue one after another, and labels."""
    rng = np.random.default_rng(seed)
    labels = [int(rng.integers(SHAPES)) for _ in range(count)]
    images = [draw_crop(rng, label, 32).transpose(2, 0, 1).ravel() for label in labels]
    return np.stack(images), labels


# ---------------------------------------------------------------------------- all layouts

LAYOUTS: dict[str, Callable] = dict(
    coco=draw_coco,
    lvis=draw_lvis,
    voc=draw_voc,
    ade20k=draw_ade20k,
    cityscapes=draw_cityscapes,
    cocostuff=draw_cocostuff,
    imagenet=draw_imagenet,
    cifar10=draw_cifar10,
    cifar100=draw_cifar100,
)
# Where the configs look for each, below $MMHYBRID_DATA.
PLACES = dict(
    coco='coco',
    lvis='lvis_v1',
    voc='VOCdevkit',
    ade20k='ade/ADEChallengeData2016',
    cityscapes='cityscapes',
    cocostuff='coco_stuff164k',
    imagenet='imagenet',
    cifar10='cifar10',
    cifar100='cifar100',
)


def _scenes(split, count, size, seed):
    """(id, RGB image, masks, shapes) of each image of a split; no two splits share an image."""
    stream = ('train', 'val', 'test').index(split)
    for index in range(count):
        rng = np.random.default_rng((seed, stream, index))
        yield 100000 * stream + index + 1, *draw_scene(rng, size)


def _spread(label, classes):
    """A class for a shape: the six lie evenly in the list."""
    return int(label) * classes // SHAPES


def _class_names(host, dataset):
    """The class list of a host library's data set."""
    import importlib

    return getattr(importlib.import_module(f'{host}.datasets'), dataset).METAINFO['classes']


def _write_image(path, image):
    """An RGB image or a map of one byte a pixel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = [] if path.suffix == '.png' else [cv2.IMWRITE_JPEG_QUALITY, 95]
    if not cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image, quality):
        raise OSError(f'could not write {path}')


def _write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='python -m mmhybrid.testing.folders',
        description='Draw a tiny folder in the layout of a public data set.',
    )
    parser.add_argument('layout', choices=[*LAYOUTS, 'all'])
    parser.add_argument('out', type=Path, help='folder to make; of all layouts, its parent')
    parser.add_argument('--train', type=int, help='training images')
    parser.add_argument('--val', type=int, help='validation images')
    parser.add_argument('--size', type=int, nargs=2, default=(128, 96), metavar=('W', 'H'))
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    places = {args.layout: args.out}
    if args.layout == 'all':
        places = {name: args.out / place for name, place in PLACES.items()}
    for name, root in places.items():
        try:
            draw_folder(name, root, args.train, args.val, args.size, args.seed)
        except (ValueError, FileExistsError) as error:
            parser.error(str(error))
        print(f'{name}: {root}')


if __name__ == '__main__':
    main()
