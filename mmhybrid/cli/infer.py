"""Run a trained detector, segmentor or classifier on images, folders, videos or a camera.

    mmhybrid infer WORK_DIR SOURCE [--out-dir DIR] [--score-thr S] [--batch-size N]
                          [--tile SIDE [--overlap PIXELS]] [--coco-ids ANNOTATIONS.json]
    mmhybrid infer CONFIG CHECKPOINT SOURCE ...

WORK_DIR, of a training, stands for the config saved in it and its best checkpoint, else the newest.
SOURCE is an image, a folder (read recursively), a video file, or `camera:0`, which runs until
Ctrl-C or --max-frames. Written to DIR are

pictures/       what was found, drawn on the images, in the tree of the given folder; one video for
                a video or a camera
predictions/    a JSON file an image, and a PNG: class indices of a segmentor, numbers of the
                objects of a detector with masks, counted from 1 as in the JSON
results.json    of a detector: the objects of all images in COCO's results format. Ids of images
                and categories count from 1, as images.json lists them, or are those of --coco-ids;
                AP counts objects of any score, so compute it of a run with --score-thr 0

Boxes in predictions/ are x1, y1, x2, y2 in pixels of the given image; masks are COCO run-length
codes. With --tile large images are predicted in overlapping tiles.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..data.listing import IMAGE_SUFFIXES, is_image, walk
from ..files import write_file
from ..inspect.report.draw import (
    draw_class_map,
    draw_instances,
    enlarged,
    put_list,
    read_image,
)
from .arguments import argument_parser
from .config import load_config
from .paths import find, find_checkpoint, find_trained, is_folder
from .predictors import TiledPredictor, open_predictor
from .usage import UsageError

PICTURES = ('.jpg', '.jpeg', '.png')
VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v')
CAMERA = 'camera:'
SECONDS_A_LINE = 15  # of progress, where there is no terminal


def _score(text):
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text}: expected a number from 0 to 1')
    return value


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the arguments."""
    parser = argument_parser(
        'Run a trained model on images, folders, videos or a camera.', trained=True
    )
    parser.add_argument('source', metavar='SOURCE', help='image, folder, video file or camera:0')
    parser.add_argument('--out-dir', help='default: WORK_DIR/infer')
    parser.add_argument(
        '--score-thr', type=_score, default=0.3, help='least score of an object, 0 to 1'
    )
    parser.add_argument('--batch-size', type=int, default=1, help='images, or tiles, at a time')
    parser.add_argument('--tile', type=int, metavar='SIDE', help='predict in tiles of this side')
    parser.add_argument('--overlap', type=int, help='of tiles, in pixels; default: SIDE / 4')
    parser.add_argument('--coco-ids', metavar='FILE', help='annotations that name the ids')
    parser.add_argument('--max-frames', type=int, help='of a video or a camera')
    parser.add_argument('--no-pictures', action='store_true', help='draw nothing')
    args = parser.parse_args(argv)
    for name in ('batch_size', 'max_frames'):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} {value}: expected at least 1')
    if args.tile is not None and args.tile < 32:
        parser.error(f'--tile {args.tile}: expected at least 32 pixels')
    if args.overlap is not None and args.tile is None:
        parser.error('--overlap is of tiles: give --tile too')
    return args


def main(argv: list[str] | None = None) -> int:
    """Predict and write; return the number of images that could not be read or predicted."""
    args = parse_args(argv)
    if args.work_dir is None and is_folder(args.config):
        args.work_dir = args.config  # which may have been moved since
    args.config, args.checkpoint = find_trained(args.config, args.checkpoint)
    model_file = find_checkpoint(args.checkpoint)
    source = open_source(args.source, args.max_frames)
    cfg = load_config(args)
    out = Path(args.out_dir or Path(cfg.work_dir) / 'infer')
    predictor = open_predictor(cfg, model_file, args.cfg_options)
    if args.tile:
        overlap = args.tile // 4 if args.overlap is None else args.overlap
        predictor = TiledPredictor(predictor, args.tile, overlap, args.batch_size)
    results = CocoResults(predictor.classes, args.coco_ids)
    writer = Writer(predictor, out, args.score_thr, results, source, not args.no_pictures)
    clock, failed, unread = Clock(), 0, []
    try:
        with writer, progress(source.count) as advance:
            batch = []
            for name, image in clock.reading(source):
                if image is None:
                    unread.append(str(name))
                    advance(1)
                    continue
                batch.append((name, image))
                if len(batch) == args.batch_size:
                    failed += work(batch, predictor, writer, clock, advance)
                    batch = []
            failed += work(batch, predictor, writer, clock, advance)
    except KeyboardInterrupt:
        if not source.is_endless:
            raise
    print(clock.summary(writer.count, args.batch_size))
    if unread:
        print(
            f'{len(unread)} cannot be read as images: empty, damaged, too large or another format: '
            + ', '.join(unread)
        )
    failed += len(unread)
    print(f'{writer.count} of {writer.count + failed} images: {out}')
    return failed


def work(batch: list, predictor: Any, writer: 'Writer', clock: 'Clock', advance: Callable) -> int:
    """Predict and write some images; return how many cannot be predicted."""
    if not batch:
        return 0
    with clock.part('model'):
        found = predict(batch, predictor)
    with clock.part('drawing and writing'):
        for (name, image), prediction in zip(batch, found, strict=True):
            if prediction is not None:
                writer.write(name, image, prediction)
    advance(len(batch))
    return found.count(None)


def predict(batch: list, predictor: Any) -> list:
    """Predictions of some images; of those that the pipeline or the model refuses None.

    Such as 3000x3 pixels: no size fits both sides. The others of a folder are still wanted.
    """
    try:
        return predictor.predict([image for _, image in batch])
    except (ValueError, cv2.error) as error:
        if len(batch) > 1:
            return [found for one in batch for found in predict([one], predictor)]
        ((name, image),) = batch
        print(f'{name}: {image.shape[1]}x{image.shape[0]} pixels cannot be predicted: {error}')
        return [None]


@contextlib.contextmanager
def progress(count: int | None, *, lines: bool = True) -> Iterator[Callable]:
    """A bar on a terminal; elsewhere, with ``lines``, one on stderr now and then.

    Args:
        count: images; None where it is unknown.
        lines: False writes nothing where there is no terminal.

    Returns:
        A function that takes how many more are done.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = [BarColumn(), MofNCompleteColumn(), TextColumn('{task.fields[rate]}')]
    columns += [TimeRemainingColumn()] if count else []
    console = Console(stderr=True)
    begin = last = time.monotonic()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task('', total=count, rate='')

        def advance(number):
            nonlocal last
            done, now = bar.tasks[0].completed + number, time.monotonic()
            rate = f'{done / max(now - begin, 1e-9):.2f} images/s'
            bar.update(task, completed=done, rate=rate)
            if lines and not console.is_terminal and now - last >= SECONDS_A_LINE:
                last = now
                whole = f' of {count}' if count else ''
                print(f'{done:.0f}{whole} images, {rate}', file=sys.stderr, flush=True)

        yield advance


class Clock:
    """Seconds spent, by part of the work."""

    def __init__(self):
        self.begin = time.monotonic()
        self.seconds = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the seconds within to those of a part."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0) + time.monotonic() - begin

    def reading(self, source: Iterable) -> Iterator:
        """Yield what a source holds; the seconds of reading are counted."""
        frames = iter(source)
        while True:
            with self.part('reading'):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame

    def summary(self, count: int, batch_size: int) -> str:
        """Return seconds, images a second and the share of each part, in a line."""
        import torch
        from mmengine.device import get_device

        total = sum(self.seconds.values())
        shares = ', '.join(
            f'{name} {seconds / max(total, 1e-9):.0%}' for name, seconds in self.seconds.items()
        )
        threads = f', {torch.get_num_threads()} threads' if get_device() == 'cpu' else ''
        return (
            f'{total:.1f} s, {count / max(total, 1e-9):.2f} images/s ({shares}; batch '
            f'{batch_size}, {get_device()}{threads})'
        )


# What is read


class Files:
    """Names and images of files; an image is None where it cannot be read."""

    is_endless = False
    fps = None

    def __init__(self, paths: Sequence[Path], base: Path):
        self.paths, self.base = paths, base
        self.count = len(paths)

    def __iter__(self) -> Iterator[tuple[Path, np.ndarray | None]]:
        for path in self.paths:
            yield path.relative_to(self.base), read_image(path)


class Frames:
    """Frames of a video or a camera, named by their number."""

    def __init__(self, address: int | str, name: str, most: int | None, is_endless: bool):
        self.capture = cv2.VideoCapture(address)
        if not self.capture.isOpened():
            kind = 'camera' if is_endless else 'video'
            raise UsageError(f'{name} cannot be opened as a {kind}')
        self.name, self.most, self.is_endless = name, most, is_endless
        self.fps = self.capture.get(cv2.CAP_PROP_FPS) or 25.0
        known = 0 if is_endless else int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = min(known or most or 0, most or known) or None

    def __iter__(self) -> Iterator[tuple[Path, np.ndarray | None]]:
        number = 0
        while self.most is None or number < self.most:
            there, frame = self.capture.read()
            if not there:
                break
            yield Path(self.name, f'{number:06d}.jpg'), to_rgb(frame)
            number += 1
        self.capture.release()
        if number == 0:
            raise UsageError(f'{self.name} holds no frame that can be read')
        if number < (self.count or 0):
            print(f'{self.name}: {number} of {self.count} frames can be read; it may be damaged')


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Return OpenCV's image in RGB."""
    return np.ascontiguousarray(image[..., ::-1])


def open_source(text: str, most: int | None = None) -> Files | Frames:
    """Open the source of images.

    Raises:
        UsageError: it is missing, holds no images, or cannot be opened.
    """
    if text.startswith(CAMERA):
        number = text.removeprefix(CAMERA)
        if not number.isdigit():
            raise UsageError(f'{text}: expected {CAMERA} and a number, such as {CAMERA}0')
        return Frames(int(number), f'camera_{number}', most, is_endless=True)
    path = find(text, 'image, folder or video')
    if path.is_file() and path.suffix.lower() in VIDEOS:
        return Frames(str(path), path.name, most, is_endless=False)
    images, base = list_images(path)
    return Files(images[:most], base)


def list_images(source: Path) -> tuple[list[Path], Path]:
    """Images of a file or folder, sorted, and the folder that names are relative to."""
    if source.is_file():
        if not is_image(source):
            raise UsageError(
                f'{source} is not an image or a video: expected '
                + ', '.join(IMAGE_SUFFIXES + VIDEOS)
            )
        return [source], source.parent
    files = walk(source)
    images = [path for path in files if is_image(path)]
    others = [path.relative_to(source).as_posix() for path in files if not is_image(path)]
    if others and images:
        print(f'{len(others)} files in {source} are not taken for images: '
              + ', '.join(others[:5]) + ', ...' * (len(others) > 5))  # fmt: skip
    if not images:
        raise UsageError(f'no images in {source}: expected {", ".join(IMAGE_SUFFIXES)}')
    return images, source


# What is written


class CocoResults:
    """Objects of all images in COCO's results format."""

    def __init__(self, classes: Sequence[str], annotations: str | Path | None = None):
        self.classes = list(classes)
        self.entries: list[dict] = []
        self.images: list[dict] = []
        self.image_ids = None
        self.category_ids = list(range(1, len(classes) + 1))
        if annotations:
            path = find(annotations, 'annotations')
            try:
                content = json.loads(path.read_text(encoding='utf-8'))
                self.image_ids = {image['file_name']: image['id'] for image in content['images']}
                known = {one['name']: one['id'] for one in content['categories']}
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(f'{annotations} is no COCO annotation file: {error!r}') from error
            unknown = [name for name in classes if name not in known]
            if unknown:
                raise UsageError(
                    f'--coco-ids: {annotations} has no category {", ".join(unknown)}; it has '
                    + ', '.join(known)
                )
            self.category_ids = [known[name] for name in classes]

    def add(self, name: Path, size: Sequence[int], objects: list[dict]) -> None:
        """Objects of an image, with masks as run-length codes."""
        if self.image_ids is None:
            image_id = len(self.images) + 1
        else:
            image_id = self.image_ids.get(name.as_posix(), self.image_ids.get(name.name))
            if image_id is None:
                raise UsageError(f'--coco-ids: the annotations have no image {name}')
        height, width = size
        self.images.append(dict(id=image_id, file_name=name.as_posix(), height=height, width=width))
        for one in objects:
            x1, y1, x2, y2 = one['bbox']
            entry = dict(
                image_id=image_id,
                category_id=self.category_ids[one['label']],
                bbox=[x1, y1, x2 - x1, y2 - y1],
                score=one['score'],
            )
            if 'mask' in one:
                entry['segmentation'] = one['mask']
            self.entries.append(entry)

    def write(self, out: Path) -> None:
        """Write ``results.json`` and ``images.json`` into a folder."""
        categories = [
            dict(id=i, name=name) for i, name in zip(self.category_ids, self.classes, strict=True)
        ]
        content = dict(images=self.images, categories=categories)
        write_file(out / 'images.json', json.dumps(content))
        write_file(out / 'results.json', json.dumps(self.entries))


class Writer:
    """Writes pictures and predictions; as a context it finishes the video and the results."""

    def __init__(
        self,
        predictor: Any,
        out: Path,
        score_thr: float,
        results: CocoResults,
        source: Files | Frames,
        with_pictures: bool,
    ):
        self.predictor, self.out, self.score_thr = predictor, out, score_thr
        self.results, self.source, self.with_pictures = results, source, with_pictures
        self.count = 0
        self.video: cv2.VideoWriter | None = None
        self.forms = dict(mmdet=self._objects, mmseg=self._class_map, mmpretrain=self._classes)

    def __enter__(self) -> 'Writer':
        self.out.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *error: Any) -> None:
        if self.video is not None:
            self.video.release()
        if self.predictor.scope == 'mmdet' and error[0] in (None, KeyboardInterrupt):
            self.results.write(self.out)

    def write(self, name: Path, image: np.ndarray, prediction: dict) -> None:
        """Write all about one image."""
        picture, content, indices = self.forms[self.predictor.scope](name, image, prediction)
        height, width = image.shape[:2]
        content = dict(image=str(name), width=width, height=height, **content)
        path = self.out / 'predictions' / f'{name}.json'
        write_file(path, json.dumps(content))
        if indices is not None:
            write_picture(path.with_suffix('.png'), indices)
        if self.with_pictures:
            self._write_picture(name, picture[..., ::-1])
        self.count += 1

    def _write_picture(self, name, picture):
        path = self.out / 'pictures' / name
        if self.source.fps is None:
            if path.suffix.lower() not in PICTURES:  # a.tif beside a.jpg must not become a.jpg too
                path = path.with_name(f'{path.name}.jpg')
            write_picture(path, picture)
            return
        if self.video is None:
            path = path.parent.with_suffix('.mp4')
            path.parent.mkdir(parents=True, exist_ok=True)
            size = picture.shape[1::-1]
            code = cv2.VideoWriter.fourcc(*'mp4v')
            self.video = cv2.VideoWriter(str(path), code, self.source.fps, size)
            if not self.video.isOpened():
                raise UsageError(f'{path} cannot be written: this OpenCV has no mp4 encoder')
        self.video.write(np.ascontiguousarray(picture))

    def _objects(self, name, image, prediction):
        from pycocotools import mask as coco

        objects = [one for one in prediction['objects'] if one['score'] >= self.score_thr]
        listed, numbers = [], None
        for number, one in enumerate(objects, 1):
            entry = {**one, 'class': self.predictor.classes[one['label']]}
            mask = entry.pop('mask')
            if mask is not None:
                code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
                entry['mask'] = dict(size=code['size'], counts=code['counts'].decode())
                if numbers is None:
                    kind = np.uint8 if len(objects) < 256 else np.uint16
                    numbers = np.zeros(image.shape[:2], kind)
                numbers[mask & (numbers == 0)] = number  # the better scored lies above
            listed.append(entry)
        self.results.add(name, image.shape[:2], listed)
        picture = None
        if self.with_pictures:
            picture = draw_instances(image, objects, self.predictor.classes, self.predictor.colors)
        return picture, dict(instances=listed), numbers

    def _class_map(self, name, image, prediction):
        class_map = prediction['class_map']
        classes, colors = list(self.predictor.classes), self.predictor.colors
        shares = np.bincount(class_map.ravel(), minlength=len(classes)) / class_map.size
        listed = {classes[i]: round(float(shares[i]), 4) for i in np.argsort(-shares)}
        listed = {name: share for name, share in listed.items() if share > 0}
        picture = draw_class_map(image, class_map, colors, ignore=-1)
        lines = [
            (f'{label} {share:.0%}', colors[classes.index(label)].tolist())
            for label, share in list(listed.items())[:6]
        ]
        put_list(picture, lines)
        kind = np.uint8 if len(classes) < 256 else np.uint16
        return picture, dict(shares=listed), class_map.astype(kind)

    def _classes(self, name, image, prediction):
        scores, classes = prediction['scores'], self.predictor.classes
        best = np.argsort(-scores)[:5]
        picture, _ = enlarged(image)
        listed = [{'class': classes[i], 'score': round(float(scores[i]), 4)} for i in best]
        lines = [
            (f'{entry["class"]} {entry["score"]:.2f}', self.predictor.colors[i].tolist())
            for i, entry in zip(best, listed, strict=True)
        ]
        put_list(picture, lines)
        return picture, dict(classes=listed), None


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write an image; cv2's own writing says nothing of a full disk."""
    fits, content = cv2.imencode(path.suffix, picture)
    if not fits:
        size = f'{picture.shape[1]}x{picture.shape[0]}'
        raise UsageError(f'{path}: {size} pixels are too many for this format; give --no-pictures')
    write_file(path, content.tobytes())
