"""The data sets of a config, checked before anything is built."""

from pathlib import Path

from .usage import UsageError, reading


@reading('the config')
def check_data(cfg, splits):
    """Files and class names of the data sets of ``splits`` (train, val, test).

    Raises:
        UsageError, DataError: the first thing missing or not matching.
    """
    from mmengine.registry import DATASETS, DefaultScope, init_default_scope

    from ..data.coco import check_class_names

    if DefaultScope.get_current_instance() is None:
        init_default_scope(cfg.default_scope)
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for dataset in leaf_datasets(loader['dataset'] if loader else None):
            root = dataset.get('data_root') or ''
            if '://' in root or (
                dataset['type'].split('.')[-1].startswith('CIFAR') and dataset.get('download', True)
            ):  # what is fetched need not be there
                continue
            if root and not Path(root).is_dir():
                hint = (
                    'draw it with: python -m mmhybrid.data.demo ' + root
                    if Path(root).name == 'demo'
                    else 'give its place with --cfg-options ' + _data_options(cfg, root)
                )
                raise UsageError(f'data root of {split} not found: {root}; {hint}')
            annotations = dataset.get('ann_file')
            if annotations and '://' not in annotations:
                path = Path(root, annotations)
                if not path.exists():
                    raise UsageError(
                        f'annotation file of {split} not found: {path}; {root or "."} holds '
                        + ', '.join(sorted(p.name for p in Path(root or '.').iterdir())[:8])
                    )
            prefix = dataset.get('data_prefix') or {}
            prefix = dict(img=prefix) if isinstance(prefix, str) else prefix
            for folder in prefix.values():
                if folder and not Path(root, folder).is_dir():
                    raise UsageError(f'image folder of {split} not found: {Path(root, folder)}')
            if dataset['type'].split('.')[-1] == 'CocoDataset':
                classes = (dataset.get('metainfo') or {}).get('classes')
                if classes is None:
                    with _scope(cfg.default_scope):
                        classes = DATASETS.get(f'{cfg.default_scope}.CocoDataset').METAINFO[
                            'classes'
                        ]
                check_class_names(classes, path)
                _check_class_count(cfg.model, classes)


def _data_options(cfg, root):
    """The options that move a data root."""
    moved = str(cfg.get('data_root') or '').rstrip('/')
    if moved and (root.rstrip('/') == moved or root.startswith(moved + '/')):
        return 'data_root=PATH'
    places = []

    def walk(node, place):
        if isinstance(node, dict):
            if node.get('data_root') == root:
                places.append(f'{place}.data_root=PATH')
            for key, value in node.items():
                walk(value, f'{place}.{key}')
        elif isinstance(node, (list, tuple)):
            for index, value in enumerate(node):
                walk(value, f'{place}.{index}')

    for split in ('train', 'val', 'test'):
        walk(cfg.get(f'{split}_dataloader'), f'{split}_dataloader')
    return ' '.join(places)


def _scope(name):
    from mmengine.registry import DefaultScope

    return DefaultScope.overwrite_default_scope(name)


def leaf_datasets(dataset):
    """Return the data sets inside of wrappers and concatenations."""
    if dataset is None:
        return []
    if 'datasets' in dataset:
        return [leaf for part in dataset['datasets'] for leaf in leaf_datasets(part)]
    if 'dataset' in dataset:
        return leaf_datasets(dataset['dataset'])
    return [dataset]


def _check_class_count(node, classes, name='model'):
    if isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            _check_class_count(value, classes, f'{name}[{i}]')
    elif isinstance(node, dict):
        count = node.get('num_classes', len(classes))
        if count != len(classes):
            raise UsageError(
                f'{name}.num_classes={count}, but the data has {len(classes)} classes: '
                + ', '.join(classes)
            )
        for key, value in node.items():
            if key not in ('semantic_head', 'backbone'):  # they may count other classes
                _check_class_count(value, classes, f'{name}.{key}')
