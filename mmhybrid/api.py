"""Training, evaluation and prediction from Python, with the checks and messages of the commands."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from mmengine.config import Config

    ConfigLike: TypeAlias = str | Path | Config
    Image: TypeAlias = str | Path | np.ndarray | Any


@dataclass(frozen=True)
class Training:
    """Files and metrics that a training has left.

    Attributes:
        work_dir: folder of all of it.
        checkpoint: the newest; None if the training ended before the first.
        best: the one with the best metric, where the config asks for it.
        metrics: of the last evaluation, such as ``{'coco/bbox_mAP': 0.41}``.
    """

    work_dir: Path
    checkpoint: Path | None
    best: Path | None = None
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Prediction:
    """A model's prediction for an image of H x W pixels, as arrays.

    Attributes:
        classes: names of the classes, which labels and class maps count from 0.
        boxes: of a detector, (n, 4) float32: x1, y1, x2, y2 in pixels.
        labels: of a detector, (n,) int64; of a classifier, () int64: the class with the best score.
        scores: of a detector, (n,) float32; of a classifier, (classes,) float32.
        masks: of a detector that predicts them, (n, H, W) bool.
        class_map: of a segmentor, (H, W) int64.
    """

    classes: tuple[str, ...]
    boxes: 'np.ndarray | None' = None
    labels: 'np.ndarray | np.integer | None' = None
    scores: 'np.ndarray | None' = None
    masks: 'np.ndarray | None' = None
    class_map: 'np.ndarray | None' = None


def train(
    config: 'ConfigLike',
    *,
    data: str | Path | None = None,
    weights: str | Path | None = None,
    work_dir: str | Path | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Training:
    """Train a detector, segmentor or classifier in this process.

    Args:
        config: name or path of a config, or one in memory, which stays as it is.
        data: folder of the data, in the place of the config's ``data_root``.
        weights: of the backbone: a file, an address or a name.
        work_dir: folder of logs and checkpoints; ``work_dirs/NAME`` if not given.
        cfg_options: changes of the config, ``{'train_dataloader.batch_size': 4}``.
        options: the others of ``mmhybrid train --help``, as ``resume=True``, ``amp='bf16'``,
            ``early_stop='mIoU'``, ``seed=0``.

    Raises:
        ValueError: something given cannot work; the message says what, and what to do.
        TrainingError: the training cannot go on.
        CheckpointError: weights do not fit.
    """
    from .cli import train as command
    from .engine.separate import separate_run

    args = _arguments(
        command.build_parser(), 'train', [config], work_dir, data, cfg_options, options
    )
    args.weights = None if weights is None else str(weights)
    with separate_run():
        done = command.train(args)
    return Training(done.work_dir, done.checkpoint, done.best, done.metrics)


def evaluate(
    config: 'ConfigLike',
    checkpoint: str | Path | None = None,
    *,
    data: str | Path | None = None,
    work_dir: str | Path | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[str, float]:
    """Evaluate a trained model with the metrics of its config.

    Args:
        config: as for :func:`train`, or the work dir of a training.
        checkpoint: a file, or a work dir: its best checkpoint, else its newest. Not needed where
            ``config`` is a work dir.
        data: folder of the data, in the place of the config's ``data_root``.
        work_dir: folder of the log; that of the training, or ``work_dirs/NAME``, if not given.
        cfg_options: changes of the config.
        options: the others of ``mmhybrid test --help``, as ``tta=True`` or ``show_dir='pictures'``.

    Returns:
        Metrics, such as ``{'coco/bbox_mAP': 0.41}``; those that are not one number, as of each
        class, are in the log.

    Raises:
        ValueError, CheckpointError: as of :func:`train`.
    """
    from .cli import test as command
    from .cli.paths import find_trained, is_folder
    from .cli.usage import single_numbers
    from .engine.separate import separate_run

    if work_dir is None and is_folder(config):
        work_dir = config
    given = find_trained(config, checkpoint)
    parser = command.build_parser()
    args = _arguments(parser, 'evaluate', given, work_dir, data, cfg_options, options)
    command.check_args(parser, args)
    with separate_run():
        metrics, _ = command.evaluate(args)
    return single_numbers(metrics)


def predict(
    config: 'ConfigLike',
    images: 'Image | Iterable[Image]',
    checkpoint: str | Path | None = None,
    *,
    score_thr: float = 0.3,
    batch_size: int = 1,
    tile: int | None = None,
    overlap: int | None = None,
    cfg_options: Mapping[str, Any] | None = None,
) -> list[Prediction]:
    """Predict what a trained model sees in images; on a terminal a bar shows how far it is.

    Args:
        config: as for :func:`train`, or the work dir of a training.
        images: one or several of: a file, a folder (read recursively, sorted), an array
            (H, W, 3) of uint8 in RGB, an image of PIL.
        checkpoint: as for :func:`evaluate`; an exported file too.
        score_thr: least score of an object, 0 to 1.
        batch_size: images, or tiles, at a time.
        tile: side of the overlapping tiles that large images are predicted in.
        overlap: of tiles, in pixels; a quarter of ``tile`` if not given.
        cfg_options: changes of the config.

    Returns:
        One prediction for each image, in order.

    Raises:
        ValueError: an image cannot be read, or an argument is out of range.
        CheckpointError, ExportError: the file is bad, or of another model.
    """
    from argparse import Namespace

    from .cli.config import load_config
    from .cli.infer import progress
    from .cli.paths import find_checkpoint, find_trained
    from .cli.predictors import TiledPredictor, open_predictor
    from .engine.separate import separate_run

    if not 0 <= score_thr <= 1:
        raise ValueError(f'score_thr={score_thr}: expected a number from 0 to 1')
    if batch_size < 1:
        raise ValueError(f'batch_size={batch_size}: expected at least 1')
    if tile is not None and tile < 32:
        raise ValueError(f'tile={tile}: expected at least 32 pixels')
    if overlap is not None and not 0 <= overlap <= (tile or 0) // 2:
        raise ValueError(f'overlap={overlap}: expected 0 to half of tile, which is {tile}')
    config, checkpoint = find_trained(config, checkpoint)
    sources = list(_list_images(images))
    found = []
    with separate_run():
        args = Namespace(config=config, cfg_options=dict(cfg_options or {}), work_dir=None)
        predictor = open_predictor(load_config(args), find_checkpoint(checkpoint), args.cfg_options)
        if tile:
            side = tile // 4 if overlap is None else overlap
            predictor = TiledPredictor(predictor, tile, side, batch_size)
        with progress(len(sources), lines=False) as advance:
            for first in range(0, len(sources), batch_size):
                batch = [_read_image(source) for source in sources[first : first + batch_size]]
                for image, one in zip(batch, predictor.predict(batch), strict=True):
                    found.append(_arrays(one, tuple(predictor.classes), score_thr, image.shape[:2]))
                advance(len(batch))
    return found


def _arguments(
    parser: 'argparse.ArgumentParser', function, positional, work_dir, data, cfg_options, options
):
    """Parse as the command line does: the same checks of the same options.

    Raises:
        UsageError: an option is unknown, or its value not one of those expected.
    """
    from .cli.usage import UsageError

    def refuse(message):
        raise UsageError(f'{function}(): {message}')

    parser.error = refuse  # type: ignore[method-assign]  # of this parser alone
    parser.allow_abbrev = False
    words = []
    for name, value in options.items():
        flag = f'--{name.replace("_", "-")}'
        if name == 'help':
            refuse('unrecognized arguments: --help')
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words.append(f'{flag}={value}')
    places = ['CONFIG', *map(str, positional[1:])]
    args = parser.parse_args([*words, '--', *places])
    args.config = positional[0]
    args.work_dir = None if work_dir is None else str(work_dir)
    args.data = None if data is None else str(data)
    args.cfg_options = dict(cfg_options or {})
    return args


def _list_images(images):
    """Yield each image, files of folders as paths, without reading any.

    Raises:
        UsageError: a path is not there, or something is no image.
    """
    import numpy as np

    from .cli.infer import list_images
    from .cli.usage import UsageError

    if isinstance(images, (str, Path)):
        if not Path(images).exists():
            raise UsageError(f'image or folder not found: {images}')
        yield from list_images(Path(images))[0]
    elif isinstance(images, np.ndarray):
        if images.ndim != 3 or images.shape[2] != 3 or not images.size or images.dtype != np.uint8:
            raise UsageError(
                f'an image is an array (H, W, 3) of uint8 in RGB; this one is {images.shape} of '
                f'{images.dtype}'
            )
        yield images
    elif hasattr(images, 'getexif'):  # of PIL
        yield images
    elif isinstance(images, Iterable) and not hasattr(images, 'shape'):
        for image in images:
            yield from _list_images(image)
    else:
        raise UsageError(
            f'{type(images).__name__} is no image: expected a path, an array of NumPy, an image of '
            'PIL, or a list of these'
        )


def _read_image(source):
    """Return an image as an array (H, W, 3) of uint8 in RGB."""
    import numpy as np

    from .cli.usage import UsageError
    from .inspect.report.draw import read_image

    if isinstance(source, Path):
        pixels = read_image(source)
        if pixels is None:
            raise UsageError(f'{source}: cannot be read as an image')
        return pixels
    if isinstance(source, np.ndarray):
        return source
    from PIL import ImageOps

    image = ImageOps.exif_transpose(source)
    if image.mode.startswith('I;16'):  # the upper eight bits, as of a file; PIL would clip
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ('I', 'F'):
        raise UsageError(
            f'an image of PIL of mode {image.mode}, whose values have no known range: give an '
            'array (H, W, 3) of uint8, in RGB'
        )
    return np.asarray(image.convert('RGB'))


def _arrays(found, classes, score_thr, size):
    import numpy as np

    if 'class_map' in found:
        return Prediction(classes, class_map=found['class_map'].astype(np.int64))
    if 'scores' in found:
        scores = np.asarray(found['scores'], np.float32)
        return Prediction(classes, scores=scores, labels=scores.argmax())
    objects = [one for one in found['objects'] if one['score'] >= score_thr]
    masks = None
    if found['has_masks']:
        masks = np.array([one['mask'] for one in objects], bool).reshape(-1, *size)
    return Prediction(
        classes,
        boxes=np.array([one['bbox'] for one in objects], np.float32).reshape(-1, 4),
        labels=np.array([one['label'] for one in objects], np.int64),
        scores=np.array([one['score'] for one in objects], np.float32),
        masks=masks,
    )
