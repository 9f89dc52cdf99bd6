"""Checkpoints of a training: written whole or not at all, found again, loaded strictly."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmhybrid.checkpoints import CheckpointError, read
from mmhybrid.engine.health import TrainingError
from mmhybrid.engine.load_from import HINT, compare_load_from
from mmhybrid.engine.lora import put_base_back
from mmhybrid.files import PART, write_atomically
from mmhybrid.registry import HOOKS

EXTRA = 'stopped_'  # begins the name of a checkpoint outside the usual intervals


@register_backend('mmhybrid.atomic')
class AtomicBackend(LocalBackend):
    """Local files that appear complete: written beside their place, then renamed."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        try:
            with write_atomically(filepath) as draft, open(draft, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise CheckpointError(_not_written(Path(filepath), len(obj), error)) from error


def _not_written(path, size, error):
    try:
        free = f'; {shutil.disk_usage(path.parent).free / 1e6:.0f} MB are free there'
    except OSError:
        free = ''
    others = [p for p in path.parent.glob('*.pth') if p != path]
    newest = max(others, key=lambda p: p.stat().st_mtime_ns, default=None)
    return (
        f'{path} ({size / 1e6:.0f} MB) could not be written: {error.strerror or error}{free}. '
        + (f'{newest} is complete. ' if newest else 'There is no earlier checkpoint. ')
        + 'Make room, then go on with --resume'
    )


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, with a good checkpoint on disk at every moment.

    A killed training, or a full disk, leaves no half-written file under a checkpoint's name. At
    least two checkpoints are kept when their number is limited, since mmengine removes the oldest
    before it writes the next. Weights that are not finite numbers are never saved, so they never
    take the place of good ones. Gradients that wait to be accumulated further are saved too.

    A file that ``load_from`` names is compared with the model before mmengine loads what fits: what
    it fills in part is reported.

    Raises:
        CheckpointError: the file could not be written, or ``load_from`` fits nothing of the model.
        TrainingError: the weights are not finite numbers.
    """

    best_ckpt_path: str | None
    best_ckpt_path_dict: dict[str, str | None]

    def __init__(
        self, *args: Any, max_keep_ckpts: int = -1, backend_args: dict | None = None, **kwargs: Any
    ):
        if max_keep_ckpts == 1:
            max_keep_ckpts = 2
        if backend_args is None and '://' not in str(kwargs.get('out_dir') or ''):
            backend_args = dict(backend='mmhybrid.atomic')
        super().__init__(*args, max_keep_ckpts=max_keep_ckpts, backend_args=backend_args, **kwargs)
        self.gradients: dict[str, torch.Tensor] = {}
        self.saved_iter = None

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self._forget_other_folders()
        if is_main_process():
            self._remove(f'*.pth.*{PART}')  # of a training that was killed while it wrote

    def _forget_other_folders(self) -> None:
        """Leave the best checkpoints of the folder that a training was resumed from in peace.

        mmengine would remove them, by their whole path, when this one finds a better one.
        """

        def here(path):
            own = Path(self.out_dir).absolute()
            return path if path and Path(path).absolute().parent == own else None

        if '://' in str(self.out_dir) or self.save_best is None:
            return
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = here(self.best_ckpt_path)
        else:
            self.best_ckpt_path_dict = {k: here(v) for k, v in self.best_ckpt_path_dict.items()}

    def save_extra(self, runner: Runner, done: int) -> str:
        """Save outside the usual intervals, after ``done`` iterations; in every process.

        Returns:
            str: the path. The next checkpoint of an interval removes the file.
        """
        if self.saved_iter == done:
            return self.last_ckpt
        self._prepare(runner, done)
        name = f'{EXTRA}iter_{done}.pth'
        meta = dict(epoch=runner.epoch, iter=done)
        runner.save_checkpoint(
            self.out_dir, name, meta=meta, by_epoch=False, backend_args=self.backend_args
        )
        return self.file_backend.join_path(self.out_dir, name)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self.gradients and 'optimizer' in checkpoint:
            checkpoint['gradients'] = self.gradients

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not runner._resume and runner._load_from is not None:
            report = compare_load_from(_unwrapped(runner.model), checkpoint, str(runner._load_from))
            if report:
                runner.logger.warning(report)
        gradients = checkpoint.get('gradients', {}) if runner._resume else {}
        if not gradients:
            return
        from mmhybrid.engine.sharding import part_like

        parameters = dict(_unwrapped(runner.model).named_parameters())
        for name, gradient in gradients.items():
            parameters[name].grad = part_like(gradient, parameters[name])

    def _save_checkpoint_with_step(self, runner, step, meta):
        self._prepare(runner, meta['iter'])
        super()._save_checkpoint_with_step(runner, step, meta)
        self.saved_iter = meta['iter']
        if is_main_process():
            self._remove(f'{EXTRA}iter_*.pth')

    def _prepare(self, runner, done):
        parameters = _unwrapped(runner.model).named_parameters()
        bad = [name for name, p in parameters if not _local(p.detach()).isfinite().all()]
        if bad:
            last = runner.message_hub.runtime_info.get('last_ckpt')
            raise TrainingError(
                f'{len(bad)} weights are not finite numbers after {done} iterations, first '
                f'{bad[0]}. They are not saved; last checkpoint: {last or "none yet"}. '
                'Try a lower learning rate, a longer warm-up or optim_wrapper.clip_grad.max_norm=5'
            )
        self.gradients = _waiting_gradients(runner)

    def _remove(self, pattern):
        if self.backend_args == dict(backend='mmhybrid.atomic'):
            for path in Path(self.out_dir).glob(pattern):
                path.unlink(missing_ok=True)


def _waiting_gradients(runner) -> dict[str, torch.Tensor]:
    """Return the gradients of an incomplete accumulation in the process that writes them.

    Of several processes it is their mean.
    """
    gradients: dict[str, torch.Tensor] = {}
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return gradients
    parameters = dict(_unwrapped(runner.model).named_parameters())
    # Each process may have used other weights, and all must reduce the same ones.
    used = torch.tensor([int(p.grad is not None) for p in parameters.values()])
    all_reduce(used, 'max')
    for (name, parameter), anywhere in zip(parameters.items(), used.tolist(), strict=True):
        if not anywhere:
            continue
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        if hasattr(gradient, 'full_tensor'):  # what is spread over processes is the mean
            gradient = gradient.full_tensor()
        else:
            all_reduce(gradient, 'mean')
        if is_main_process():
            gradients[name] = gradient.cpu()
    return gradients


def _unwrapped(model: nn.Module) -> nn.Module:
    return getattr(model, 'module', model)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a tensor that is spread over several."""
    return tensor.to_local() if hasattr(tensor, 'to_local') else tensor


def checkpoint_folder(cfg: Any) -> Any:
    """Return the folder of a training's checkpoints: its work dir, or one in the hook's out_dir."""
    out = (cfg.get('default_hooks', {}).get('checkpoint') or {}).get('out_dir')
    if not out or str(out) == str(cfg.work_dir):
        return Path(cfg.work_dir)
    name = Path(cfg.work_dir).name
    return f'{out}/{name}' if '://' in str(out) else Path(out, name)


def latest_checkpoint(work_dir: str | Path, report: Callable[[str], None] = print) -> Path | None:
    """Find the newest readable ``[stopped_]epoch_N.pth`` or ``..iter_N.pth``; None without any.

    Unreadable ones (left by a program that writes in place) are skipped and reported.
    """
    found: dict[Path, tuple[int, int]] = {}
    for path in Path(work_dir).glob('*.pth'):
        match = re.fullmatch(rf'(?:{EXTRA})?(?:epoch|iter)_(\d+)\.pth', path.name)
        if match:
            found[path] = (path.stat().st_mtime_ns, int(match[1]))
    for path in sorted(found, key=found.__getitem__, reverse=True):
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
        dict: ``state_dict``; ``meta``, which is empty for a file of weights alone; ``parts``, the
            names of all that the file holds.

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
    return dict(state_dict=weights, meta=content.get('meta', {}), parts=set(content))


def load_trained(model: nn.Module, path: str | Path) -> dict:
    """Load the weights of a trained model into ``model``, every one of them.

    Returns:
        dict: the checkpoint's ``meta``, empty if it has none.

    Raises:
        CheckpointError: the file is bad, or its keys or shapes are not exactly the model's.
    """
    given, meta = check_weights(model, path)
    model.load_state_dict(given)
    return meta


def check_weights(model: nn.Module, path: str | Path) -> tuple[dict, dict]:
    """Read the weights of a trained model and compare them with ``model``, which stays as it is.

    Of a training with LoRA, the frozen weights are loaded into the model if it has others.

    Returns:
        tuple: the state dict and the checkpoint's ``meta``.

    Raises:
        CheckpointError: as :func:`load_trained`.
    """
    checkpoint = read_checkpoint(path)
    given = {k.removeprefix('module.'): v for k, v in checkpoint['state_dict'].items()}
    put_base_back(model, given, checkpoint['meta'], str(path))
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
            f'({len(expected)} weights). {". ".join(problems)}. '
            + (
                'Give the config it was trained with (a copy lies in its work dir)'
                if any(k in expected and given[k].shape == expected[k].shape for k in given)
                else HINT
            )
        )
    return given, checkpoint['meta']


def _some(keys, count=3):
    keys = list(map(str, keys))
    return ', '.join(keys[:count]) + (f', ... ({len(keys)} in all)' if len(keys) > count else '')
