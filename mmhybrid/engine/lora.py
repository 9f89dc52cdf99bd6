"""Checkpoints of a training with LoRA: what was learned, and the name of the weights below."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import Tensor, nn

from mmhybrid.checkpoints import CheckpointError, load_pretrained, pretrained_options
from mmhybrid.checkpoints.fit_vit import find_vits
from mmhybrid.lora import has_lora, is_of_lora
from mmhybrid.registry import HOOKS

META = 'lora'
"""The entry of a checkpoint's ``meta`` that names the weights it does not hold."""


@HOOKS.register_module()
class LoRAHook(Hook):
    """Keeps a ViT's frozen weights out of the checkpoints of a training with LoRA.

    They are those of the file that the backbone's ``init_cfg`` names. A checkpoint holds the name
    and a hash instead, and all that is learned: LoRA, adapter, neck and head. To load it, the file
    is read again, and compared by the hash. Frozen weights from elsewhere, random ones and those of
    a whole model that ``load_from`` named, stay in the checkpoints.

    Without LoRA it does nothing.

    Raises:
        CheckpointError: a checkpoint is loaded, and the weights below cannot be had.
    """

    priority = 'LOW'  # after an average has taken its part, before the file is compared or written

    def __init__(self) -> None:
        self.keeps_all = False
        self.hashes: dict[str, str] = {}
        self.files: list[str] = []  # that hold what the last checkpoint does not

    def before_run(self, runner: Runner) -> None:
        for average in _averages(runner):
            for vit in _vits(average.module).values():
                vit.register_load_state_dict_pre_hook(_keep_base)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not self.keeps_all:
            leave_out_base(_unwrapped(runner.model), checkpoint, self.hashes)
            notes = checkpoint['meta'].get(META, {}).values()
            steps = [step['checkpoint'] for note in notes for step in note['weights']]
            self.files = list(dict.fromkeys(steps))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = _unwrapped(runner.model)
        if not has_lora(model):
            return
        meta = checkpoint.get('meta') or {}
        if META not in meta:
            self.keeps_all = True
            return
        base = put_base_back(model, checkpoint['state_dict'], meta, str(runner._load_from))
        for average in _averages(runner):  # copies of the model before it had any weights
            average.module.load_state_dict(base, strict=False)


def leave_out_base(model: nn.Module, checkpoint: dict, hashes: dict[str, str]) -> None:
    """Take the frozen weights of ViTs with LoRA out of a checkpoint, and note which they are.

    Args:
        model: the model, out of any wrapper.
        checkpoint: changed in place.
        hashes: of the frozen weights, by the prefix of the ViT; new ones are added.
    """
    state, average = checkpoint['state_dict'], checkpoint.get('ema_state_dict', {})
    notes: dict[str, Any] = {}
    for prefix, vit in _vits(model).items():
        source = _pretrained(model, prefix)
        if source is None:
            continue
        names = [prefix + name for name in _base(vit)]
        base = {name.removeprefix(prefix): state.pop(name) for name in names}
        for name in names:
            average.pop(f'module.{name}', None)
        if prefix not in hashes:
            hashes[prefix] = hash_base(base)
        notes[prefix] = dict(backbone=source[0], weights=source[1], sha256=hashes[prefix])
    if notes:
        checkpoint['meta'][META] = notes


def put_base_back(
    model: nn.Module, state_dict: dict[str, Tensor], meta: Mapping, file: str
) -> dict[str, Tensor]:
    """Add the frozen weights that :func:`leave_out_base` took out of a state dict.

    They are the model's own, if these are the right ones, else loaded into it as its ``init_cfg``
    says, or the checkpoint.

    Args:
        model: the model, out of any wrapper.
        state_dict: changed in place.
        meta: of the checkpoint.
        file: its name in errors.

    Returns:
        What was added.

    Raises:
        CheckpointError: the weights cannot be had, or are others than those it was trained with.
    """
    added: dict[str, Tensor] = {}
    vits = _vits(model)
    for prefix, note in (meta.get(META) or {}).items():
        if prefix not in vits:
            continue  # a model of another config, which the names will tell
        if hash_base(_base(vits[prefix])) != note['sha256']:
            _load_base(model, prefix, note, file)
        base = _base(vits[prefix]).items()
        added |= {prefix + name: _whole(value) for name, value in base}
    state_dict.update(added)
    return added


def hash_base(base: Mapping[str, Tensor]) -> str:
    """Hash the matrices of a ViT's blocks, as SHA-256.

    Position and patch embeddings are left out: where they were resized, processors differ in the
    last bits.
    """
    digest = hashlib.sha256()
    for name in sorted(base):
        if name.startswith('blocks.') and name.endswith('.weight') and base[name].ndim == 2:
            digest.update(name.encode())
            value = _whole(base[name].detach()).cpu().contiguous()
            digest.update(value.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _load_base(model: nn.Module, prefix: str, note: Mapping, file: str) -> None:
    """Load the weights of a ViT, and of what surrounds it, that a checkpoint names."""
    given = _pretrained(model, prefix)
    steps = note['weights'] if given is None else given[1]
    backbone: Any = model.get_submodule(note['backbone'])
    named = ', '.join(str(step['checkpoint']) for step in steps)
    advice = 'give that file: --cfg-options model.backbone.init_cfg.checkpoint=FILE'
    try:
        for options in steps:
            logger = MMLogger.get_current_instance()
            load_pretrained(backbone, parts=backbone.pretrained_parts, logger=logger, **options)
    except CheckpointError as error:
        raise CheckpointError(
            f'{file} holds LoRA, and not the frozen weights below, which are to be found in '
            f'{named}: {error}. If they lie elsewhere, {advice}'
        ) from error
    if hash_base(_base(model.get_submodule(prefix.rstrip('.')))) != note['sha256']:
        trained = ', '.join(str(step['checkpoint']) for step in note['weights'])
        raise CheckpointError(
            f'{file} was trained with LoRA over the weights of {trained} (hash '
            f'{note["sha256"][:12]}), and {named} holds others; {advice}'
        )


def _averages(runner: Runner) -> list[Any]:
    """Return the averages of the model that hooks keep."""
    found = (getattr(hook, 'ema_model', None) for hook in runner.hooks)
    return [average for average in found if average is not None]


def _keep_base(vit: nn.Module, state_dict: dict, prefix: str, *loading: Any) -> None:
    """Add the frozen weights of an average to a state dict that was saved without them.

    An average is loaded before :func:`put_base_back`, strictly if its hook says so.
    """
    for name, value in _base(vit).items():
        state_dict.setdefault(prefix + name, value)


def _vits(model: nn.Module) -> dict[str, nn.Module]:
    """Find the ViTs with LoRA: prefix of their names -> ViT."""
    return {prefix: vit for prefix, vit in find_vits(model).items() if has_lora(vit)}


def _base(vit: nn.Module) -> dict[str, Tensor]:
    """Return the frozen weights of a ViT by name."""
    return {name: value for name, value in vit.state_dict().items() if not is_of_lora(name)}


def _pretrained(model: nn.Module, prefix: str) -> tuple[str, list[dict]] | None:
    """Find the published weights that a ViT was filled by.

    Returns:
        The outermost backbone around the ViT that names some, and the arguments by which it loads
        them; None without any, or if they are of a whole model.
    """
    parts = prefix.split('.')  # 'backbone.vit.' is in '', 'backbone' and 'backbone.vit'
    for name in ('.'.join(parts[:end]) for end in range(len(parts))):
        module: Any = model.get_submodule(name)
        init_cfg = getattr(module, 'init_cfg', None) or []
        steps = init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg]
        found = [options for options in map(pretrained_options, steps) if options is not None]
        if found:
            found = [dict(it, checkpoint=str(it['checkpoint'])) for it in found]  # a path, too
            return (name, found) if hasattr(module, 'pretrained_parts') else None
    return None


def _unwrapped(model: Any) -> nn.Module:
    while hasattr(model, 'module'):  # out of a distributed and a TTA wrapper
        model = model.module
    return model


def _whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor that may be spread over processes."""
    return tensor.full_tensor() if hasattr(tensor, 'full_tensor') else tensor
