"""The data sets of a config, checked before anything is built."""

import contextlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from ..data.listing import folder_names, has_hidden_classes, has_hidden_images
from .launch import rank_of, start_processes
from .usage import UsageError, reading

if TYPE_CHECKING:
    from mmengine.config import Config

    from ..data.findings import Findings

SOFTMAX_HEADS = ('ClsHead', 'LinearClsHead', 'StackedLinearClsHead', 'VisionTransformerClsHead')


def check_data(cfg: 'Config', splits: Sequence[str], *, contents: bool = True) -> None:
    """Check the data sets of ``splits`` (train, val, test): files, class names, contents.

    Of several processes each checks that the files are there, the first alone reads them. Then they
    join, and all raise what one has found.

    Args:
        cfg: the config.
        splits: train, val, test.
        contents: False leaves out annotations and images, as of a training that goes on.

    Raises:
        UsageError, DataError: the first thing missing or not matching.
    """
    from mmengine.dist import all_gather_object, is_distributed

    own: Exception | None = None
    texts: list[str | None] = []
    try:
        _check(cfg, splits, contents, rank_of(cfg) == 0)
    except Exception as error:  # any: the others would wait for this process
        own = error
    before = is_distributed()
    try:
        start_processes(cfg)
        texts = all_gather_object(None if own is None else str(own))
    except Exception:
        if own is None:  # else that is the error to be told
            raise
    found = {rank: text for rank, text in enumerate(texts) if text is not None}
    if found and is_distributed() and not before:
        _leave()
    if own is not None:
        raise own
    for rank, text in found.items():
        raise UsageError(text if rank == 0 else f'process {rank}: {text}')


def _leave():
    """Part from the other processes: one that ends while another is connected may abort."""
    import torch

    with contextlib.suppress(RuntimeError):  # of one that has ended already
        torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@reading('the config')
def _check(cfg, splits, contents, is_first):
    from mmengine.registry import DATASETS, DefaultScope, init_default_scope

    from ..data.coco import check_class_names

    if DefaultScope.get_current_instance() is None:
        init_default_scope(cfg.default_scope)
    check_several_classes(cfg.model)
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
                    else f'give its place with {_data_options(cfg, root)}'
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
            if not is_first:
                continue
            if dataset['type'].split('.')[-1] == 'CocoDataset':
                classes = (dataset.get('metainfo') or {}).get('classes')
                if classes is None:
                    with _scope(cfg.default_scope):
                        classes = DATASETS.get(f'{cfg.default_scope}.CocoDataset').METAINFO[
                            'classes'
                        ]
                check_class_names(classes, path)
                _check_class_count(cfg.model, classes)
            with contextlib.suppress(UnknownDataset):  # of which building it tells more
                source = Source(dataset, cfg.default_scope)
                _compare_names(split, source)
                if contents:
                    _look(split, source)


class UnknownDataset(UsageError):
    """A data set whose class the host library does not have."""


class Source:
    """Places and options of a data set, as its config gives them or its class takes them.

    Attributes:
        kind: name of its class.
        scope: of the host library.
        root: its ``data_root``.
        prefix: folders below it by name; of one folder ``img``.
        listed: its ``ann_file``, or None.
        given, classes: names that the config gives, or its class has, or None.
        trains: True if it is filtered, as what is trained on is.

    Raises:
        UnknownDataset: the host has no such class.
    """

    def __init__(self, dataset: Mapping, scope: str):
        from mmengine.registry import DATASETS

        self.dataset, self.scope = dataset, scope
        self.kind = dataset['type'].split('.')[-1]
        self.host = DATASETS.get(dataset['type'] if '.' in dataset['type'] else
                                 f'{scope}.{self.kind}')  # fmt: skip
        if self.host is None:
            raise UnknownDataset(f'{scope} has no data set {self.kind!r}')
        self.root = Path(dataset.get('data_root') or '')
        prefix = dataset.get('data_prefix') or {}
        self.prefix = dict(img=prefix) if isinstance(prefix, str) else prefix
        self.listed = self.root / dataset['ann_file'] if dataset.get('ann_file') else None
        given = dataset.get('classes')  # mmpretrain's other place
        self.given = (dataset.get('metainfo') or {}).get('classes', given)
        self.classes = self.given or self.host.METAINFO.get('classes')
        self.trains = not dataset.get('test_mode', False)

    def option(self, name: str, default: Any = None) -> Any:
        """Return an option as the config gives it, else the default of the class that takes it."""
        if name in self.dataset:
            return self.dataset[name]
        for base in self.host.__mro__:
            parameter = inspect.signature(base.__init__).parameters.get(name)
            if parameter is not None and parameter.default is not inspect.Parameter.empty:
                return parameter.default
        return default

    def filtered(self, name: str) -> int:
        """Return a number of ``filter_cfg``, by which a training leaves out what is small."""
        given = self.dataset.get('filter_cfg') or {}
        return given.get(name, 0) if self.trains else 0

    @property
    def is_voc(self) -> bool:
        """True for boxes as XML."""
        return self.kind in ('VOCDataset', 'XMLDataset')

    @property
    def is_coco(self) -> bool:
        """True for boxes in COCO format, as ``CocoDataset`` and its kinds of boxes read them."""
        if self.scope != 'mmdet' or self.listed is None:
            return False
        from mmdet.datasets import CocoDataset, CocoPanopticDataset

        return issubclass(self.host, CocoDataset) and not issubclass(self.host, CocoPanopticDataset)

    @property
    def with_masks(self) -> bool:
        """True if masks of objects are trained on."""
        return any(step.get('with_mask') for step in self.dataset.get('pipeline') or ())

    @property
    def voc_folder(self) -> Path:
        """The folder of VOC's Annotations and JPEGImages."""
        return self.root / self.prefix.get('sub_data_root', '')

    @property
    def mask_folders(self) -> tuple[Path, Path]:
        """The folders of images and of their masks."""
        return (
            self.root / self.prefix.get('img_path', ''),
            self.root / self.prefix.get('seg_map_path', ''),
        )

    @property
    def mask_options(self) -> tuple[Any, tuple[str, str], int, bool, Path | None]:
        """Classes, suffixes, ``ignore_index``, ``reduce_zero_label``, and a list of the images."""
        return (
            self.classes,
            (self.option('img_suffix', '.jpg'), self.option('seg_map_suffix', '.png')),
            self.option('ignore_index', 255),
            self.option('reduce_zero_label', False),
            self.listed,
        )

    @property
    def folder_names(self) -> list[str] | None:
        """The names that the config gives folders of classes; None if it gives none."""
        return list(self.given) if are_names(self.given) else None

    @property
    def class_folder(self) -> tuple[Path, Path | None]:
        """The folder of the classes' folders, and a list of its images, if there is one."""
        folder = self.root / (
            self.prefix.get('img') or self.prefix.get('img_path') or self.option('split', '')
        )
        listed = self.listed or self.root / 'meta' / f'{folder.name}.txt'  # ImageNet's place
        return folder, listed if listed.is_file() else None


def classes_of(cfg: 'Config', split: str) -> list[str] | None:
    """Return the class names of the data of a split, in their order; None if they are not known."""
    from mmengine.registry import DefaultScope, init_default_scope

    if DefaultScope.get_current_instance() is None:
        init_default_scope(cfg.default_scope)
    loader = cfg.get(f'{split}_dataloader')
    for dataset in leaf_datasets(loader['dataset'] if loader else None):
        try:
            source = Source(dataset, cfg.default_scope)
        except UnknownDataset:
            continue
        classes = source.classes
        if classes is None and source.scope == 'mmpretrain' and not source.kind.startswith('CIFAR'):
            folder, listed = source.class_folder
            classes = folder_names(folder) if listed is None and folder.is_dir() else None
        if are_names(classes):
            return list(classes)
    return None


def compare_classes(
    path: str | Path,
    meta: Mapping | None,
    classes: Sequence[str] | None,
    *,
    fine_tuning: bool = False,
) -> None:
    """Compare the classes that a checkpoint was trained on with those of the data.

    Args:
        path: of the checkpoint.
        meta: its ``dataset_meta``, with any names of keys.
        classes: of the data; None if they are not known.
        fine_tuning: True if other classes may be learned; then they are said.

    Raises:
        UsageError: they differ, or for fine-tuning are the same in another order.
    """
    from mmengine.dist import is_main_process

    trained = {key.lower(): value for key, value in (meta or {}).items()}.get('classes')
    if not are_names(trained) or classes is None or list(trained) == list(classes):
        return
    both = f'\n  checkpoint: {", ".join(trained)}\n  data:       {", ".join(classes)}'
    if sorted(trained) == sorted(classes):
        raise UsageError(
            f'{path} numbers the classes in another order than the data, so each would be taken '
            f'for another{both}\nGive data with the classes in the order of the checkpoint'
        )
    if fine_tuning:
        if is_main_process():
            print(
                f'{path} was trained on other classes, and its head learns those of the data{both}'
            )
        return
    raise UsageError(
        f'{path} was trained on other classes than the data has{both}\n'
        'Give data with the classes of the checkpoint, or a checkpoint that was trained on these'
    )


def trained_classes(
    path: str | Path | None, meta: Mapping | None, classes: Sequence[str] | None
) -> Sequence[str] | None:
    """Return the classes that a checkpoint was trained on, else those of the data.

    Where they differ it is said: the outputs of the model are those of the checkpoint.
    """
    trained = {key.lower(): value for key, value in (meta or {}).items()}.get('classes')
    if not trained:
        return classes
    if classes is not None and list(trained) != list(classes):
        print(
            f'the classes are those that {path} was trained on, {", ".join(map(str, trained))}; '
            f'the config has {", ".join(map(str, classes))}'
        )
    return trained


def are_names(classes: Any) -> TypeGuard[Sequence[str]]:
    """Return True for a list of names."""
    return isinstance(classes, (list, tuple)) and all(isinstance(name, str) for name in classes)


def _compare_names(split, source):
    """Compare the names of a folder, or in its classes.txt, with those of the config."""
    from ..data.check.classes import report_names
    from ..data.findings import Findings
    from ..data.fit import read_class_file

    if source.scope == 'mmpretrain' and not source.kind.startswith('CIFAR'):
        folder, listed = source.class_folder
        if listed is None and folder.is_dir():
            findings = Findings()
            report_names(findings, folder, source.folder_names)
            _say(split, findings)
    if source.scope != 'mmseg' or split != 'test':
        return
    found, given = read_class_file(source.root), source.classes
    if found and are_names(given) and list(given) != found:
        raise UsageError(
            f'{split}: the classes of {source.root / "classes.txt"} are not those of the config\n'
            f'  config: {", ".join(given)}\n  file:   {", ".join(found)}'
        )


def _look(split, source):
    """Refuse, or say in a line, what a training or an evaluation would not tell."""
    from ..data import before

    findings = None
    if source.kind.startswith('CIFAR'):
        return
    if source.is_voc:
        findings = before.look_at_voc(
            source.voc_folder, source.listed, source.classes,
            evaluated=not source.trains, min_box=source.filtered('bbox_min_size') or 0,
        )  # fmt: skip
    elif source.is_coco:
        lvis = source.kind.startswith('LVIS')
        findings = before.look_at_coco(
            source.listed,
            source.root / source.prefix.get('img', ''),
            None if lvis else source.classes,
            masks=source.with_masks,
            evaluated=not source.trains,
            min_size=source.filtered('min_size'),
        )
    elif source.scope == 'mmseg':
        findings = before.look_at_masks(
            *source.mask_folders, *source.mask_options, evaluated=not source.trains
        )
    elif source.scope == 'mmpretrain':
        folder, listed = source.class_folder
        if listed is None and folder.is_dir():
            findings = before.look_at_classes(
                folder, source.option('extensions'), source.folder_names
            )
    if findings is not None:
        report_hidden(findings, source)
        _say(split, findings)


def report_hidden(findings: 'Findings', source: Source) -> None:
    """Add a warning if a data set that walks through a folder reads hidden images with it.

    Configs of your own data have a list of the others in that case.
    """
    folder, listed = None, source.listed
    if source.scope == 'mmseg':
        folder = source.mask_folders[0]
    elif source.scope == 'mmpretrain':
        folder, listed = source.class_folder
    if folder is None or listed is not None or not folder.is_dir():
        return
    if has_hidden_images(folder):
        findings.warning(
            f'hidden folders in {folder} hold images, which this data set reads too: remove them'
        )
    elif source.scope == 'mmpretrain' and has_hidden_classes(folder):
        findings.warning(
            f'hidden folders in {folder}, which this data set takes for classes: remove them'
        )


def _say(split, findings):
    errors, warnings = findings.messages('error'), findings.messages('warning')
    for line in warnings:
        print(f'{split}: {line}')
    if errors:
        raise UsageError(f'{split}: ' + f'\n{split}: '.join(errors))


def _data_options(cfg, root):
    """The options that move a data root."""
    moved = str(cfg.get('data_root') or '').rstrip('/')
    if moved and (root.rstrip('/') == moved or root.startswith(moved + '/')):
        return '--data PATH'
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
    return f'--cfg-options {" ".join(places)}'


def _scope(name):
    from mmengine.registry import DefaultScope

    return DefaultScope.overwrite_default_scope(name)


def leaf_datasets(dataset: Any) -> list:
    """Return the data sets inside of wrappers and concatenations."""
    if dataset is None:
        return []
    if 'datasets' in dataset:
        return [leaf for part in dataset['datasets'] for leaf in leaf_datasets(part)]
    if 'dataset' in dataset:
        return leaf_datasets(dataset['dataset'])
    return [dataset]


def check_several_classes(node: Any, name: str = 'model') -> None:
    """Raise UsageError for a softmax over one class: it is 1, and nothing is learned."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, (dict, list, tuple)):
            check_several_classes(value, f'{name}.{key}')
    if not isinstance(node, dict) or node.get('num_classes') != 1:
        return
    losses = node.get('loss_decode') or (
        node.get('loss') or {} if node.get('type') in SOFTMAX_HEADS else None
    )
    if losses is None:
        return
    losses = losses if isinstance(losses, (list, tuple)) else [losses]
    if not any(loss.get('use_sigmoid') for loss in losses):
        raise UsageError(
            f'{name}.num_classes=1: a softmax over one class is 1, and nothing is learned. Name '
            'what is beside it as a class too, for num_classes=2'
        )


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
