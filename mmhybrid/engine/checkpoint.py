"""Checkpoints of a training: written whole or not at all, found again, loaded strictly."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from torch import nn

from mmhybrid.checkpoints import CheckpointError, read
from mmhybrid.registry import HOOKS


@register_backend('mmhybrid.atomic')
class AtomicBackend(LocalBackend):
    """Local files that appear complete: written beside their place, then renamed."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        filepath = Path(filepath)
        filepath.parent.mkdir(parents=True, exist_ok=True)
        part = filepath.with_name(filepath.name + '.part')
        with open(part, 'wb') as file:
            file.write(obj)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, filepath)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, with a good checkpoint on disk at every moment.

    A killed training leaves no half-written file under a checkpoint's name. At least two
    checkpoints are kept when their number is limited, since mmengine removes the oldest before
    it writes the next.
    """

    def __init__(self, *args, max_keep_ckpts=-1, backend_args=None, **kwargs):
        if max_keep_ckpts == 1:
            max_keep_ckpts = 2
        if backend_args is None and '://' not in str(kwargs.get('out_dir') or ''):
            backend_args = dict(backend='mmhybrid.atomic')
        super().__init__(*args, max_keep_ckpts=max_keep_ckpts, backend_args=backend_args, **kwargs)


def latest_checkpoint(work_dir: str | Path, report: Callable[[str], None] = print) -> Path | None:
    """The newest readable ``epoch_N.pth`` or ``iter_N.pth`` of a training, or None.

    Unreadable ones (left by a program that writes in place) are skipped and reported.
    """
    found = {}
    for path in Path(work_dir).glob('*.pth'):
        match = re.fullmatch(r'(?:epoch|iter)_(\d+)\.pth', path.name)
        if match:
            found[path] = (path.stat().st_mtime_ns, int(match[1]))
    for path in sorted(found, key=found.get, reverse=True):
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            report(f'skipped: {error}')
        else:
            return path
    return None


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint file to the CPU, without executing anything it holds.

    Returns:
        dict: ``state_dict`` and ``meta``, which is empty for a file of weights alone.

    Raises:
        CheckpointError: missing, truncated, or no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob('*.pth'))
        raise CheckpointError(
            f'checkpoint not found: {path}'
            + (f'; {path.parent} holds {", ".join(near)}' if near else '')
        )
    content = read(path)
    weights = content.get('state_dict', content) if isinstance(content, dict) else None
    if not weights or not all(isinstance(v, torch.Tensor) for v in weights.values()):
        kind = f'keys {_some(content)}' if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f'{path} holds no state dict, but {kind}')
    return dict(state_dict=weights, meta=content.get('meta', {}))


def load_weights(model: nn.Module, path: str | Path) -> dict:
    """Load the weights of a trained model into ``model``, every one of them.

    Returns:
        dict: the checkpoint's ``meta``, empty if it has none.

    Raises:
        CheckpointError: the file is bad, or its keys or shapes are not exactly the model's.
    """
    checkpoint = read_checkpoint(path)
    given = {k.removeprefix('module.'): v for k, v in checkpoint['state_dict'].items()}
    expected = model.state_dict()
    missing = [k for k in expected if k not in given]
    unexpected = [k for k in given if k not in expected]
    shapes = [
        f'{k} {tuple(given[k].shape)} for {tuple(v.shape)}'
        for k, v in expected.items()
        if k in given and given[k].shape != v.shape
    ]
    problems = [
        f'{len(keys)} {what}: {_some(keys)}'
        for what, keys in (
            ('missing', missing),
            ('unexpected', unexpected),
            ('of another shape', shapes),
        )
        if keys
    ]
    if problems:
        raise CheckpointError(
            f'{path} is not a checkpoint of this {type(model).__name__} '
            f'({len(expected)} weights). ' + '. '.join(problems) + '. '
            'Give the config it was trained with (a copy lies in its work dir)'
        )
    model.load_state_dict(given)
    return checkpoint['meta']


def _some(keys, count=3):
    keys = list(map(str, keys))
    return ', '.join(keys[:count]) + (f', ... ({len(keys)} in all)' if len(keys) > count else '')
