"""What must be known of a COCO annotation file before a training starts."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config


class DataError(ValueError):
    """Data that is missing or does not fit the config; says what to do."""


def read_categories(path: str | Path) -> list[str]:
    """Category names of a COCO annotation file, in the file's order.

    The file is searched for its categories, not parsed: COCO's own has 450 MB.

    Raises:
        DataError: the file is missing, cut off, or holds no categories.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f'annotation file not found: {path}')
    text = path.read_text(encoding='utf-8')
    if not text.rstrip().endswith('}'):
        raise DataError(f'{path} is not a complete JSON object ({len(text)} characters)')
    for match in re.finditer(r'"categories"\s*:\s*(?=\[)', text):
        try:
            categories, _ = json.JSONDecoder().raw_decode(text, match.end())
            return [category['name'] for category in categories]
        except (ValueError, TypeError, KeyError):
            continue
    raise DataError(f'{path} has no "categories": [{{"id": ..., "name": ...}}, ...]')


def check_class_names(classes: Sequence[str], path: str | Path) -> None:
    """Compare a config's class names with those of an annotation file.

    Their order is compared too: mmdet's CocoDataset numbers labels in the file's order, so names
    in another order would be shown for the wrong objects.

    Raises:
        DataError: a class is not in the file, or the order differs.
    """
    names = read_categories(path)
    unknown = [name for name in classes if name not in names]
    if unknown:
        raise DataError(
            f'class names do not match {path}\n'
            f'  not in the file: {", ".join(unknown)}\n'
            f'  config: {", ".join(classes)}\n'
            f'  file:   {", ".join(names)}'
        )
    in_file_order = [name for name in names if name in classes]
    if list(classes) != in_file_order:
        raise DataError(
            f"class names are in another order than in {path}; write them in the file's order\n"
            f'  config: {", ".join(classes)}\n'
            f'  file:   {", ".join(in_file_order)}'
        )


def fit_to_folder(cfg: Config) -> None:
    """Fit a detection config to the user's COCO-format folder; writes to ``cfg``.

    The options are top-level keys of the config: ``data_root``; ``classes`` (None: all categories
    of the training file); ``coco_folder``, a dict of ``train_ann``, ``train_img``, ``val_ann`` and
    ``val_img`` relative to ``data_root``; ``image_size``, ``max_iters`` and ``weights``. What the
    config leaves out follows from them: paths and class names of data sets and evaluators, class
    counts of the heads, sizes of the resizing steps, the end of the schedule. ``coco_folder`` is
    removed: the config saved with a training is complete and needs no fitting.

    Raises:
        DataError: a file is missing, or class names do not match it.
    """
    folder = cfg.pop('coco_folder')
    root = Path(cfg.data_root)
    if not root.is_dir():
        raise DataError(f'data root not found: {root}; give it with --cfg-options data_root=PATH')
    names = read_categories(root / folder['train_ann'])
    classes = cfg.get('classes') or names
    if isinstance(classes, str):
        classes = [name.strip() for name in classes.split(',')]
    if set(classes) <= set(names):
        classes = [name for name in names if name in classes]
    for split in ('train', 'val'):
        check_class_names(classes, root / folder[f'{split}_ann'])
    cfg.classes = classes

    for loader, split in (
        (cfg.train_dataloader, 'train'),
        (cfg.val_dataloader, 'val'),
        (cfg.test_dataloader, 'val'),
    ):
        loader.dataset.update(
            data_root=str(root),
            ann_file=folder[f'{split}_ann'],
            data_prefix=dict(img=folder[f'{split}_img']),
            metainfo=dict(classes=classes),
        )
        for step in loader.dataset.pipeline:
            if step.type in ('Resize', 'RandomResize'):
                step.setdefault('scale', tuple(cfg.image_size))
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(root / folder['val_ann'])

    _set_num_classes(cfg.model, len(classes))
    if cfg.get('weights'):
        cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=cfg.weights)
    end = cfg.train_cfg.setdefault('max_iters', cfg.max_iters)
    for scheduler in cfg.param_scheduler:
        if scheduler.type == 'CosineAnnealingLR':
            scheduler.setdefault('T_max', end)
            scheduler.setdefault('end', end)


def _set_num_classes(node, count):
    if isinstance(node, dict):
        if 'num_classes' in node:
            node['num_classes'] = count
        for value in node.values():
            _set_num_classes(value, count)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _set_num_classes(value, count)
