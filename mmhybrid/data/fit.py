"""A config of your own data fitted to the folder that holds it.

Such a config leaves out what the folder knows: paths, class names and counts, the end of the
schedule. ``fit_to_folder`` fills it in from the options at the top of the config and from the
folder, so that a training on new data is one command with one path.
"""

import difflib
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config

from ..files import write_file
from .coco import DataError, check_class_names, read_categories, read_text
from .listing import (
    CLASS_FILE,
    IMAGE_SUFFIXES,
    folder_names,
    has_hidden_classes,
    has_hidden_images,
    walk,
)
from .palette import palette
from .split import FOLDER, split_coco, split_list

PEEK = 8  # masks of a split that are read before a training starts
LEAST = 32  # pixels of a side that a backbone takes
WARM_UP = 0.1  # of the training, at most
EVALUATIONS = 6  # of a training, each with a checkpoint, but no more than 500 steps between two
LINES = 10  # of the log in a short training; 20 steps a line in others


def fit_to_folder(cfg: Config, validates: bool = True) -> None:
    """Fit a config of your own data to the folder ``cfg.data_root``; writes to ``cfg``.

    The kind of data is told by the key that names the parts of the folder: ``coco_folder`` (boxes
    and masks in COCO format), ``mask_folder`` (an image of class numbers for each image) or
    ``class_folder`` (a folder of images for each class). The options are the other top-level keys,
    as the bases in ``configs/_base_/datasets/custom_*.py`` list them. The key is removed: the
    config saved with a training is complete and needs no fitting. Other configs are left alone.
    Unless it ``validates``, the validation part may be missing.

    Raises:
        DataError: a file or folder is missing, or does not fit the options.
    """
    for key, fit in KINDS.items():
        if key in cfg:
            parts = cfg.pop(key)
            _check_options(key, parts)
            root = Path(cfg.data_root)
            if not root.is_dir():
                raise DataError(f'data root not found: {root}; give its place with --data PATH')
            try:
                lists = _split(cfg, key, root, parts)
                there = _is_there(root, parts[PARTS[key][1]])
                fit(cfg, root, parts, ('train', 'val') if validates or there else ('train',))
            except DataError as error:
                raise DataError(f'{error}{_advice(key, root, parts)}') from error
            for dataset, split in _datasets(cfg) if lists else ():
                dataset.ann_file = str(lists[split])
            # The hosts' own functions read the pipelines at the top of a config.
            cfg.train_pipeline = cfg.train_dataloader.dataset.pipeline
            cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
            _fit_weights(cfg)
            _fit_schedule(cfg)


# What each names the parts of its folder by, and how a validation part is split off.
SPLIT_OPTIONS = ('val_fraction', 'val_seed')
OPTIONS = dict(
    coco_folder=('train_ann', 'train_img', 'val_ann', 'val_img', *SPLIT_OPTIONS),
    mask_folder=(
        'train_img', 'train_mask', 'val_img', 'val_mask', 'img_suffix', 'mask_suffix',
        *SPLIT_OPTIONS,
    ),
    class_folder=('train', 'val', *SPLIT_OPTIONS),
)  # fmt: skip


def _check_options(key, parts):
    """Refuse a name that nothing reads."""
    for name in parts:
        if name not in OPTIONS[key]:
            near = [known for known in OPTIONS[key] if name.startswith(known)]
            near = near or difflib.get_close_matches(name, OPTIONS[key], n=1)
            raise DataError(
                f'{key}.{name}=...: {key} has no {name!r}'
                + (f', but {near[0]!r}' if near else f'; it has {", ".join(OPTIONS[key])}')
            )


# ---------------------------------------------------------------------------- validation part

# The training and the validation part, by which one sees that they are there.
PARTS = dict(
    coco_folder=('train_ann', 'val_ann'),
    mask_folder=('train_img', 'val_img'),
    class_folder=('train', 'val'),
)


def _split(cfg, key, root, parts):
    """Split the training part if ``val_fraction`` asks for it; return lists of images, if any."""
    fraction, seed = parts.pop('val_fraction', None), parts.pop('val_seed', 0)
    if fraction is None:
        return None
    first, second = PARTS[key]
    if _is_there(root, parts[second]):
        raise DataError(
            f'{key}.val_fraction={fraction}, but {root / parts[second]} is there: leave it out, or '
            f'let that part alone with {key}.{second}=None'
        )
    if not (root / parts[first]).exists():
        raise DataError(f'not found: {root / parts[first]}')
    if not cfg.get('work_dir'):
        raise DataError(f'{key}.val_fraction={fraction}: give work_dir, where the split is saved')
    options = (fraction, seed, Path(cfg.work_dir).resolve())
    if key == 'coco_folder':
        files = split_coco(root / parts['train_ann'], *options)
        parts.update(
            train_ann=str(files['train']), val_ann=str(files['val']), val_img=parts['train_img']
        )
        return None
    if key == 'mask_folder':
        folder = root / parts['train_img']
        suffix = parts['img_suffix'] = parts.get('img_suffix') or _only_suffix(folder)
        parts.update(val_img=parts['train_img'], val_mask=parts['train_mask'])
        names = _names_in(folder, suffix)
        return split_list({name: name[: -len(suffix)] for name in names}, *options)
    folder = root / parts['train']
    parts['val'] = parts['train']
    classes = folder_names(folder)
    lines = {}
    for number, name in enumerate(classes):
        for path in walk(folder / name, IMAGE_SUFFIXES):
            text = path.relative_to(folder).as_posix()
            lines[text] = f'{text} {number}'
    return split_list(lines, *options)


def _is_there(root, part):
    """Tell if a part of the folder is there; None says that it shall not be read."""
    return part is not None and (root / part).exists()


def _listed(cfg, folder, split, classes=None, suffix=None):
    """A list of the images of a part, which the hosts read in the place of hidden folders too."""
    if not cfg.get('work_dir'):
        raise DataError(f'{folder} has hidden folders of images, which the hosts read: remove them')
    if classes is None:
        lines = [name[: -len(suffix)] for name in _names_in(folder, suffix)]
    else:
        lines = [
            f'{path.relative_to(folder).as_posix()} {number}'
            for number, name in enumerate(classes)
            for path in walk(folder / name, IMAGE_SUFFIXES)
        ]
    path = Path(cfg.work_dir).resolve() / FOLDER / f'{split}_shown.txt'
    write_file(path, ''.join(f'{line}\n' for line in lines))
    return str(path)


def _advice(key, root, parts):
    """Tell what a folder is that does not fit, and what to do with it."""
    from .formats import looks_like

    there = [_is_there(root, parts[name]) for name in PARTS[key]]
    if there == [True, False]:
        return f'; without a validation part: --cfg-options {key}.val_fraction=0.2'
    known = looks_like(root) if not there[0] or key == 'mask_folder' else None
    return f'\n{known}' if known else ''


# ---------------------------------------------------------------------------- COCO format


def _fit_coco(cfg, root, parts, splits):
    names = read_categories(root / parts['train_ann'])
    given = cfg.get('classes')
    if isinstance(given, int) and str(given) not in names:
        raise DataError(
            f'classes={given}: expected names of categories, not their number; leave it out for '
            f'all of {root / parts["train_ann"]}: {", ".join(names)}'
        )
    classes = _name_list(given) or names
    if set(classes) <= set(names):
        classes = [name for name in names if name in classes]
    for split in splits:
        check_class_names(classes, root / parts[f'{split}_ann'])
    cfg.classes = classes
    image_size = _two_sides(cfg, 'image_size')
    for dataset, split in _datasets(cfg):
        dataset.update(
            data_root=str(root),
            ann_file=parts[f'{split}_ann'],
            data_prefix=dict(img=parts[f'{split}_img']),
            metainfo=dict(classes=classes, palette=_colours(len(classes))),
        )
        _set_in_steps(dataset.pipeline, ('Resize', 'RandomResize'), scale=image_size)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(root / parts['val_ann'])
    _set_num_classes(cfg.model, len(classes))


# ---------------------------------------------------------------------------- images and masks


def _fit_masks(cfg, root, parts, splits):
    if cfg.reduce_zero_label and cfg.ignore_index != 255:
        raise DataError(
            f'ignore_index={cfg.ignore_index} with reduce_zero_label: it makes 255 of 0, so pixels '
            'without a class must be 0 or 255'
        )
    suffix = parts.get('img_suffix')
    found = {}
    for split in splits:
        images = _folder(root / parts[f'{split}_img'], f'image folder of {split}')
        suffix = suffix or _only_suffix(images)
        found[split] = _pairs(
            images, _folder(root / parts[f'{split}_mask'], f'mask folder of {split}'),
            suffix, parts['mask_suffix'],
        )  # fmt: skip
    masks = {split: some(pairs, PEEK) for split, pairs in found.items()}
    classes = _class_list(cfg.get('classes'), root, masks['train'], cfg)
    for paths in masks.values():
        for path in paths:
            _check_mask(path, len(classes), cfg.ignore_index, cfg.reduce_zero_label)
    _check_several(classes, cfg.reduce_zero_label)
    cfg.classes = classes
    colours = cfg.get('palette')
    if colours is not None and len(colours) != len(classes):
        raise DataError(f'palette has {len(colours)} colours for {len(classes)} classes')
    metainfo = dict(classes=classes, palette=colours or _colours(len(classes)))
    image_size, crop_size = (_two_sides(cfg, key) for key in ('image_size', 'crop_size'))

    for dataset, split in _datasets(cfg):
        dataset.update(
            data_root=str(root),
            data_prefix=dict(img_path=parts[f'{split}_img'], seg_map_path=parts[f'{split}_mask']),
            img_suffix=suffix,
            seg_map_suffix=parts['mask_suffix'],
            metainfo=metainfo,
            ignore_index=cfg.ignore_index,
            reduce_zero_label=cfg.reduce_zero_label,
        )
        if split in splits and has_hidden_images(root / parts[f'{split}_img']):
            dataset.ann_file = _listed(cfg, root / parts[f'{split}_img'], split, suffix=suffix)
        _set_in_steps(dataset.pipeline, ('Resize', 'RandomResize'), scale=image_size)
        _set_in_steps(
            dataset.pipeline, ('RandomCrop',),
            crop_size=crop_size, ignore_index=cfg.ignore_index,
        )  # fmt: skip
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ignore_index = cfg.ignore_index
    model = cfg.model
    model.data_preprocessor.update(size=crop_size, seg_pad_val=cfg.ignore_index)
    # A photograph of 2000x20 has fewer rows, when it is scaled, than any backbone takes.
    model.data_preprocessor.setdefault('test_cfg', dict(size=(LEAST, LEAST)))
    if model.get('test_cfg', {}).get('mode') == 'slide':
        model.test_cfg.update(
            crop_size=crop_size, stride=tuple(side * 2 // 3 for side in crop_size)
        )
    if cfg.ignore_index != 255:  # 255 is what every head ignores
        for key in ('decode_head', 'auxiliary_head'):
            heads = model.get(key) or []
            for head in heads if isinstance(heads, (list, tuple)) else [heads]:
                head.ignore_index = cfg.ignore_index
    _set_num_classes(model, len(classes))


def _check_several(classes, reduce_zero_label):
    """One class is what every pixel is, and a softmax over it is 1: there is nothing to learn."""
    if len(classes) == 1:
        option = ' reduce_zero_label=False' if reduce_zero_label else ''
        raise DataError(
            f'one class, {classes[0]}: every pixel would be it, and nothing is learned. Name what '
            f'is beside it too: --cfg-options classes=background,{classes[0]}{option}, for masks '
            f'of 0 (background) and 1 ({classes[0]})'
        )


def _folder(path, what):
    if not path.is_dir():
        known = ', '.join(sorted(p.name for p in path.parent.iterdir())[:8]) if (
            path.parent.is_dir()) else ''  # fmt: skip
        raise DataError(
            f'{what} not found: {path}' + (f'; {path.parent} holds {known}' if known else '')
        )
    return path


def _only_suffix(folder):
    """The suffix of the images below a folder, which must all have the same."""
    counts = Counter(path.suffix for path in walk(folder, IMAGE_SUFFIXES))
    if not counts:
        raise DataError(f'no images in {folder}: expected files ending in .jpg, .png or alike')
    if len(counts) > 1:
        listed = ', '.join(f'{count} {suffix}' for suffix, count in counts.most_common())
        raise DataError(
            f'images of several kinds in {folder}: {listed}; convert them to one, or choose one '
            'with --cfg-options mask_folder.img_suffix=.jpg'
        )
    return next(iter(counts))


def _names_in(folder, suffix):
    """The files below a folder that end so, but none that is hidden."""
    paths = (path for path in walk(folder) if path.name.endswith(suffix))
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _pairs(images, masks, img_suffix, mask_suffix):
    """The masks of all images, sorted."""
    names = _names_in(images, img_suffix)
    if not names:
        raise DataError(f'no images *{img_suffix} in {images}')
    paths = [masks / (name[: -len(img_suffix)] + mask_suffix) for name in names]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f'{len(missing)} of {len(paths)} images in {images} have no mask; the first is missing '
            f'at {missing[0]}. Masks named otherwise: --cfg-options mask_folder.mask_suffix=.png'
        )
    return paths


def some(items: Sequence, count: int) -> Sequence:
    """Return at most ``count`` items, spread evenly."""
    return [items[len(items) * i // count] for i in range(count)] if len(items) > count else items


def _class_list(given, root, masks, cfg):
    """Class names from the option, else from the folder."""
    if isinstance(given, int):
        given = [f'class {i}' for i in range(given)]
    names = _name_list(given) or read_class_file(root)
    if names:
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise DataError(f'class names given twice: {", ".join(twice)}')
        return names
    values = sorted(set().union(*(np.unique(read_mask(path)).tolist() for path in masks)))
    raise DataError(
        f'the classes of {root} are not known: name them in order with --cfg-options '
        f'classes=road,sky,... or, one a line, in {root / CLASS_FILE}. The first masks '
        f'hold the values {", ".join(map(str, values[:30]))}; {cfg.ignore_index} (ignore_index) '
        'counts as none'
    )


def read_class_file(root: Path) -> list[str]:
    """The class names in a folder's ``classes.txt``; none without the file.

    Raises:
        DataError: the file cannot be read as text.
    """
    path = root / CLASS_FILE
    lines = read_text(path).splitlines() if path.is_file() else []
    return [line.strip() for line in lines if line.strip()]


def read_mask(path: str | Path) -> np.ndarray:
    """The class numbers of a mask file, (H, W), as MMSegmentation reads them.

    Raises:
        DataError: it is no image of one channel and one byte a pixel.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            mask = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f'mask {path} cannot be read: {error}') from error
    if mask.ndim != 2 or mask.dtype not in (np.uint8, np.bool_):
        kind = f'{mask.shape[2]} channels' if mask.ndim == 3 else f'type {mask.dtype}'
        raise DataError(
            f'mask {path} has {kind}: expected one channel of one byte, the class of each pixel '
            '(a picture of class colours has to be converted)'
        )
    return mask.astype(np.uint8)


def check_mask_values(
    values: Sequence[int], num_classes: int, ignore_index: int, reduce_zero_label: bool
) -> list[int]:
    """The values of a mask that are no class and not ignored."""
    first = 1 if reduce_zero_label else 0
    allowed = {*range(first, first + num_classes), ignore_index} | ({0} if first else set())
    return [int(value) for value in values if int(value) not in allowed]


def _check_mask(path, num_classes, ignore_index, reduce_zero_label):
    wrong = check_mask_values(
        np.unique(read_mask(path)), num_classes, ignore_index, reduce_zero_label
    )
    if wrong:
        first = int(reduce_zero_label)
        raise DataError(
            f'mask {path} holds {", ".join(map(str, wrong[:10]))}, which is no class: expected '
            f'{first} to {first + num_classes - 1}, or {ignore_index} where there is none '
            '(options classes, ignore_index and reduce_zero_label)'
        )


# ---------------------------------------------------------------------------- a folder a class


def _fit_classes(cfg, root, parts, splits):
    found = {}
    for split in splits:
        folder = _folder(root / parts[split], f'image folder of {split}')
        found[split] = folder_names(folder)
    if not found['train']:
        raise DataError(
            f'{root / parts["train"]} holds no folders: expected one of images for each class'
        )
    if found['train'] != found.get('val', found['train']):
        differing = sorted(set(found['train']) ^ set(found['val']))
        raise DataError(
            f'{parts["train"]} and {parts["val"]} in {root} have different classes: '
            f'{", ".join(differing[:8])}; a class without images needs an empty folder'
        )
    if len(found['train']) == 1:
        raise DataError(
            f'{root / parts["train"]} holds one class, {found["train"][0]}: nothing is learned '
            'without another folder, of images that show none of it'
        )
    cfg.classes = found['train']
    size = cfg.image_size
    if not _is_side(size):
        raise DataError(f'image_size={size}: expected one number, the side of a square in pixels')
    for dataset, split in _datasets(cfg):
        dataset.update(
            data_root=str(root),
            data_prefix=parts[split],
            metainfo=dict(classes=cfg.classes),
            extensions=dataset.get('extensions', IMAGE_SUFFIXES),
        )
        folder = root / parts[split]
        if split in splits and (has_hidden_images(folder) or has_hidden_classes(folder)):
            dataset.ann_file = _listed(cfg, folder, split, found['train'])
        _set_in_steps(dataset.pipeline, ('RandomResizedCrop',), scale=size)
        _set_in_steps(dataset.pipeline, ('ResizeEdge',), scale=round(size * 8 / 7))
        _set_in_steps(dataset.pipeline, ('CenterCrop',), crop_size=size)
    _set_num_classes(cfg.model, len(cfg.classes))


KINDS = dict(coco_folder=_fit_coco, mask_folder=_fit_masks, class_folder=_fit_classes)


# ---------------------------------------------------------------------------- all kinds


def _colours(count):
    """Choose the colours of the hosts' pictures, which would take those of COCO, or random ones."""
    return [list(colour) for colour in palette(count)]


def _datasets(cfg):
    """The data sets of the config, each with its split of the folder."""
    return (
        (cfg.train_dataloader.dataset, 'train'),
        (cfg.val_dataloader.dataset, 'val'),
        (cfg.test_dataloader.dataset, 'val'),
    )


def _name_list(given):
    """Class names from an option: ``'car,bus'``, a list, or the one name that reads as a number."""
    if isinstance(given, str):
        given = given.split(',')
    elif isinstance(given, (int, float)):
        given = [given]
    return [str(name).strip() for name in given or ()]


def _two_sides(cfg, key):
    """An option of two sides in pixels; one number is a square."""
    given = cfg[key]
    sides = (given, given) if _is_side(given) else given
    if not isinstance(sides, (list, tuple)) or [*map(_is_side, sides)] != [True, True]:
        raise DataError(
            f'{key}={given}: expected one or two numbers of pixels, as {key}=640 or {key}=640,480'
        )
    cfg[key] = tuple(sides)
    return cfg[key]


def _is_side(value):
    return isinstance(value, int) and value > 0


def _set_in_steps(pipeline, types, **arguments):
    """Arguments of pipeline steps, where the config does not give them."""
    for step in pipeline:
        if step.type in types:
            for key, value in arguments.items():
                step.setdefault(key, value)


def _set_num_classes(node, count):
    if isinstance(node, dict):
        if 'num_classes' in node:
            node['num_classes'] = count
            weights = (node.get('loss_cls') or {}).get('class_weight')
            # Of Mask2Former, which has "no object" beside the classes; those for this data stay.
            if isinstance(weights, (list, tuple)) and len(weights) not in (count, count + 1):
                node['loss_cls']['class_weight'] = [1.0] * count + [weights[-1]]
        for value in node.values():
            _set_num_classes(value, count)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _set_num_classes(value, count)


def _fit_weights(cfg):
    if cfg.get('weights'):
        cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=cfg.weights)
    elif not cfg.model.backbone.get('init_cfg') and not cfg.get('load_from'):
        decay = cfg.get('optim_wrapper', {}).get('paramwise_cfg') or {}
        if 'layer_decay_rate' in decay:  # it keeps what was learned before, and nothing was
            decay['layer_decay_rate'] = 1.0


def _fit_schedule(cfg):
    end = cfg.train_cfg.setdefault('max_iters', cfg.max_iters)
    between = min(500, max(20, math.ceil(end / EVALUATIONS)))
    cfg.train_cfg.setdefault('val_interval', min(end, between))  # a try of few steps has one
    hooks = cfg.get('default_hooks', {})
    for name, interval in (
        ('checkpoint', cfg.train_cfg.val_interval),
        ('logger', min(20, max(1, end // LINES))),
    ):
        if hooks.get(name) and hooks[name].interval is None:
            hooks[name].interval = interval
    for scheduler in cfg.param_scheduler:
        if scheduler.type == 'LinearLR':
            # A warm-up of one step would stay at its first rate for ever.
            scheduler.end = min(scheduler.end, max(2, int(end * WARM_UP)))
        if scheduler.type == 'CosineAnnealingLR':
            scheduler.setdefault('T_max', end)
            scheduler.setdefault('end', end)
