"""LoRA in a plain ViT, by the library peft: low-rank changes of frozen weights are learned.

LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685. In a state dict a layer with
LoRA keeps its own names (``qkv.weight``); what LoRA learns stands beside them under those of peft
(``qkv.lora_A.default.weight``). So the same files load into a ViT with and without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

MARK = '.lora_'  # in the names of all that LoRA learns
INNER = 'base_layer.'  # what peft puts before the names of a layer that it wraps


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """The options of LoRA.

    Attributes:
        r: rank of the changes.
        targets: last names of the linear layers that are changed: ``'qkv'``, ``'proj'``, and of the
            feed-forward networks ``'fc1'``, ``'fc2'``, or ``'w12'``, ``'w3'`` of SwiGLU.
        alpha: the changes are scaled by ``alpha / r``; ``2 * r`` if None.
        dropout: probability that an input of the changes is dropped in training.

    Raises:
        ValueError: a value out of range.
    """

    r: int
    targets: Sequence[str] = ('qkv', 'proj')
    alpha: float | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if type(self.r) is not int or self.r < 1:
            raise ValueError(f'lora has r={self.r!r:.200}: expected a whole number, at least 1')
        if self.alpha is not None and not (isinstance(self.alpha, (int, float)) and self.alpha > 0):
            raise ValueError(f'lora has alpha={self.alpha!r:.200}: expected a number above 0')
        if not (isinstance(self.dropout, (int, float)) and 0 <= self.dropout < 1):
            raise ValueError(f'lora has dropout={self.dropout!r:.200}: expected a number in [0, 1)')


def add_lora(vit: Any, lora: Mapping[str, Any] | None) -> None:
    """Freeze a ViT and add LoRA to its blocks, in place; None changes nothing.

    Outputs stay the same until LoRA has learned. Blocks that the ViT freezes anyway, by
    ``frozen_stages`` or since no output needs them, get none.

    Args:
        vit: a :class:`~mmhybrid.models.backbones.ViT`.
        lora: values of :class:`LoRA`, ``dict(r=8)``.

    Raises:
        TypeError: no dict, no ``r`` in it, or an unknown option.
        ValueError: a value out of range, or a target that the blocks do not have.
        ImportError: peft is not installed.
    """
    if lora is None:
        return
    known = [it.name for it in fields(LoRA)]
    if not isinstance(lora, Mapping) or 'r' not in lora or not set(lora) <= set(known):
        raise TypeError(
            f'lora={lora!r:.200}: expected a dict such as dict(r=8); it takes {", ".join(known)}'
        )
    options = LoRA(**lora)
    names = _choose_layers(vit, options.targets)
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise ImportError(f'lora needs peft ({error}): pip install mmhybrid[lora]') from error

    alpha: Any = 2 * options.r if options.alpha is None else options.alpha
    config = LoraConfig(
        r=options.r,
        lora_alpha=alpha,
        lora_dropout=options.dropout,
        target_modules='|'.join(name.replace('.', r'\.') for name in names),
    )
    inject_adapter_in_model(config, vit)  # it freezes all other parameters
    for name in names:
        layer = vit.get_submodule(name)
        layer.register_state_dict_post_hook(_name_as_layer)
        layer.register_load_state_dict_pre_hook(_name_as_wrapper)


def has_lora(model: nn.Module) -> bool:
    """Return True if a layer of the model has LoRA."""
    return any(hasattr(layer, 'lora_A') for layer in model.modules())


def is_of_lora(name: str) -> bool:
    """Return True for a name, in a state dict, of what LoRA learns."""
    return MARK in name


@torch.no_grad()
def merge_lora(model: nn.Module) -> nn.Module:
    """Add what LoRA has learned to the weights beside it, in place, and return the model.

    Outputs stay the same up to rounding. The names are those of a model without LoRA.
    """
    for name, layer in list(model.named_modules()):
        if hasattr(layer, 'lora_A'):
            layer.merge()
            model.set_submodule(name, layer.base_layer)
    return model


def _choose_layers(vit: Any, targets: Sequence[str]) -> list[str]:
    """Return the names of the linear layers that are changed, below the ViT."""
    targets = (targets,) if isinstance(targets, str) else tuple(targets)
    frozen = {id(part) for part in vit.frozen_modules()}
    blocks = {f'blocks.{i}': it for i, it in enumerate(vit.blocks) if id(it) not in frozen}
    if not blocks:
        raise ValueError(f'frozen_stages={vit.frozen_stages} leaves no block to lora')
    names = [
        name
        for prefix, block in blocks.items()
        for name, layer in block.named_modules(prefix=prefix)
        if isinstance(layer, nn.Linear)
    ]
    last = {name: name.rpartition('.')[2] for name in names}
    if not targets or not set(targets) <= set(last.values()):
        raise ValueError(
            f'lora has targets={targets!r:.200}; the linear layers of a block are '
            + ', '.join(map(repr, dict.fromkeys(last.values())))
        )
    return [name for name in names if last[name] in targets]


def _name_as_layer(
    wrapper: nn.Module, state_dict: dict[str, Tensor], prefix: str, local_metadata: dict
) -> None:
    """Give the values of the wrapped layer, in a state dict, the names they have without LoRA."""
    inner = f'{prefix}{INNER}'
    for name in [name for name in state_dict if name.startswith(inner)]:
        state_dict[prefix + name.removeprefix(inner)] = state_dict.pop(name)


def _name_as_wrapper(
    wrapper: nn.Module, state_dict: dict[str, Tensor], prefix: str, *loading: Any
) -> None:
    """Undo :func:`_name_as_layer` in a state dict that is about to be loaded."""
    for leaf in wrapper.get_submodule(INNER.rstrip('.')).state_dict():
        if f'{prefix}{leaf}' in state_dict:
            state_dict[f'{prefix}{INNER}{leaf}'] = state_dict.pop(f'{prefix}{leaf}')
