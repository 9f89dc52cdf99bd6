"""The embedded demo data set: paper cut-outs on patterned cloth, drawn by code in seconds.

Six classes (star, heart, fish, leaf, gear, moon) of any colour and size, patterned, tilted, lying
over one another. One folder serves all three hosts:

    images/{train,val}/000000.jpg
    annotations/instances_{train,val}.json        COCO: boxes, masks as run-length codes
    annotations/{train,val}/000000.png            class map: 0 background, 1 star ... 6 moon
    classes.txt                                   the names of the class maps' numbers
    crops/{train,val}/{class}/000000.jpg          one object an image, for classification
    demo.json                                     what was drawn, by which code, and its digest

Boxes, masks and areas are those of the visible part of an object. Every image has its own random
stream, so the images of a small data set are the first images of a larger one.

    python -m mmhybrid.data.demo OUT [--train N] [--val N] [--size WIDTH HEIGHT] [--seed N]
"""

import argparse
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mmhybrid.data import shapes
from mmhybrid.data.listing import CLASS_FILE
from mmhybrid.files import write_atomically

CLASSES = tuple(shapes.OUTLINES)
PALETTE = ((255, 196, 37), (226, 61, 92), (43, 145, 232), (76, 175, 80), (240, 122, 40),
           (142, 95, 214))  # fmt: skip
RECORD = 'demo.json'

MIN_AREA = 80  # visible pixels
MIN_VISIBLE = 0.7  # visible share of an object, after every later object was laid on it
TILT = 0.35  # radians, either way


def draw_scene(
    rng: np.random.Generator, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One image.

    Args:
        rng: the source of every choice.
        size: (width, height) in pixels.

    Returns:
        image (H, W, 3) uint8 RGB, masks (n, H, W) bool of the visible parts, labels (n,) int.
    """
    image = shapes.background(rng, size)
    masks: list[np.ndarray] = []
    full_areas: list[int] = []
    labels: list[int] = []
    wanted = rng.integers(3, 7)
    for _ in range(3 * wanted):  # tries: an object that would hide too much is not laid
        if len(masks) == wanted:
            break
        label = int(rng.integers(len(CLASSES)))
        radius = min(size) * np.exp(rng.uniform(np.log(0.15), np.log(0.28)))
        center = rng.uniform(0.04, 0.96, 2) * size
        contours = shapes.OUTLINES[CLASSES[label]](rng)
        contours = shapes.place(contours, center, radius, rng.uniform(-TILT, TILT))
        # The object as it would be without the image border, to know how much of it is visible.
        full_area = shapes.rasterize([c - center + 1.1 * radius for c in contours],
                                     (int(2.2 * radius) + 1,) * 2).sum()  # fmt: skip
        coverage = shapes.rasterize(contours, size)
        mask = coverage > 0.5
        remaining = [m & ~mask for m in masks] + [mask]
        shares = [
            m.sum() / area for m, area in zip(remaining, [*full_areas, full_area], strict=True)
        ]
        if min(shares) < MIN_VISIBLE or min(m.sum() for m in remaining) < MIN_AREA:
            continue
        image = shapes.paint(rng, image, contours, coverage)
        masks, full_areas, labels = remaining, [*full_areas, full_area], [*labels, label]
    image += rng.normal(0, 0.012, image.shape).astype(np.float32)
    return _to_uint8(image), np.stack(masks), np.array(labels)


def draw_crop(rng: np.random.Generator, label: int, side: int) -> np.ndarray:
    """One object of class ``label`` alone: (side, side, 3) uint8 RGB."""
    size = (side, side)
    contours = shapes.place(
        shapes.OUTLINES[CLASSES[label]](rng),
        center=side * rng.uniform(0.44, 0.56, 2),
        radius=side * rng.uniform(0.3, 0.44),
        angle=rng.uniform(0, 2 * np.pi),
    )
    image = shapes.background(rng, size)
    return _to_uint8(shapes.paint(rng, image, contours, shapes.rasterize(contours, size)))


def draw_demo(
    out: str | Path,
    train: int = 1200,
    val: int = 100,
    crops: int = 40,
    size: tuple[int, int] = (96, 96),
    seed: int = 0,
    progress: Callable[[str], None] = print,
) -> bool:
    """Draw the data set into the folder ``out``, unless the same one is already there.

    It is drawn into a sibling folder that is renamed when complete: ``out`` is never half a data
    set. A folder that was not drawn by this function is left alone.

    Args:
        train, val: images in each split.
        crops: classification images a class in train; a quarter of that in val.
        size: (width, height) of an image in pixels, at least 64 each.
        seed: of the whole data set.
        progress: called with a line of text now and then.

    Returns:
        True if anything was drawn.

    Raises:
        ValueError: an argument out of range.
        FileExistsError: ``out`` holds something that is not a demo data set.
    """
    if min(train, val) < 1 or crops < 4 or min(size) < 64 or seed < 0:
        raise ValueError(
            f'demo data of {train} training and {val} validation images, {crops} crops a class, '
            f'size {tuple(size)}, seed {seed}: expected at least 1, 1, 4, 64x64 and 0'
        )
    out = Path(out)
    wanted = dict(
        code=_digest([Path(__file__), Path(shapes.__file__)]),
        arguments=dict(train=train, val=val, crops=crops, size=list(size), seed=seed),
    )
    if read_record(out).items() >= wanted.items():
        return False
    if out.exists() and any(out.iterdir()) and not (out / RECORD).exists():
        raise FileExistsError(f'{out} is not empty and not a demo data set: give another folder')

    with write_atomically(out) as draft:
        for index, (split, count) in enumerate((('train', train), ('val', val))):
            _draw_split(draft, split, count, tuple(size), (seed, index), progress)
            _draw_crops(draft, split, crops if split == 'train' else crops // 4, (seed, index, 1))
        names = ''.join(f'{name}\n' for name in ('background', *CLASSES))
        (draft / CLASS_FILE).write_text(names, encoding='utf-8')
        content = _digest(sorted(p for p in draft.rglob('*') if p.is_file()))
        _write_json(draft / RECORD, dict(wanted, content=content))
        shutil.rmtree(out, ignore_errors=True)
    return True


def read_record(root: str | Path) -> dict:
    """Read ``draw_demo``'s note in ``root``: dict(code, arguments, content), empty without one."""
    path = Path(root) / RECORD
    return json.loads(path.read_text()) if path.is_file() else {}


def _draw_split(root, split, count, size, seed, progress):
    images: list[dict] = []
    annotations: list[dict] = []
    for folder in (root / 'images' / split, root / 'annotations' / split):
        folder.mkdir(parents=True)
    for index in range(count):
        if index % 400 == 0:
            progress(f'drawing {split} images: {index}/{count}')
        image, masks, labels = draw_scene(np.random.default_rng((*seed, 0, index)), size)
        stem = f'{index:06d}'
        _write_image(root / 'images' / split / f'{stem}.jpg', image[..., ::-1])
        class_map = np.zeros(masks.shape[1:], np.uint8)
        for mask, label in zip(masks, labels, strict=True):
            class_map[mask] = label + 1
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index,
                    category_id=int(label) + 1,
                    bbox=_box(mask),
                    area=int(mask.sum()),
                    segmentation=dict(size=list(mask.shape), counts=_run_lengths(mask)),
                    iscrowd=0,
                )
            )
        _write_image(root / 'annotations' / split / f'{stem}.png', class_map)
        images.append(dict(id=index, file_name=f'{stem}.jpg', width=size[0], height=size[1]))
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    _write_json(
        root / 'annotations' / f'instances_{split}.json',
        dict(images=images, annotations=annotations, categories=categories),
    )


def _draw_crops(root, split, count, seed, side=64):
    for label, name in enumerate(CLASSES):
        folder = root / 'crops' / split / name
        folder.mkdir(parents=True)
        for index in range(count):
            crop = draw_crop(np.random.default_rng((*seed, label, index)), label, side)
            _write_image(folder / f'{index:06d}.jpg', crop[..., ::-1])


def _to_uint8(image):
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _box(mask):
    """COCO box [x, y, width, height] of a mask, in pixels."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    x, y = columns[0], rows[0]
    return [int(v) for v in (x, y, columns[-1] + 1 - x, rows[-1] + 1 - y)]


def _run_lengths(mask):
    """COCO run lengths: column by column, alternating from background."""
    flat = mask.ravel(order='F')
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return [0, *runs] if flat[0] else runs


def _write_image(path, image):
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix == '.jpg' else []
    if not cv2.imwrite(str(path), image, quality):
        raise OSError(f'could not write {path}')


def _write_json(path, content):
    path.write_text(json.dumps(content))


def _digest(paths):
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog='python -m mmhybrid.data.demo', description='Draw the demo data set.'
    )
    parser.add_argument('out', type=Path, help='folder to write; re-drawn when it is out of date')
    parser.add_argument('--train', type=int, default=1200, help='training images')
    parser.add_argument('--val', type=int, default=100, help='validation images')
    parser.add_argument('--size', type=int, nargs=2, default=(96, 96), metavar=('W', 'H'))
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    try:
        drawn = draw_demo(args.out, args.train, args.val, size=args.size, seed=args.seed)
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    print(f'{args.out}: {"drawn" if drawn else "up to date"}')


if __name__ == '__main__':
    main()
