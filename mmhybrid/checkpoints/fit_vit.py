"""Fitting a plain ViT's weights to a ViT of another image, patch or set of tokens.

A ViT is known by its attributes, wherever in a model it stands: ``num_prefix_positions`` (class
and distillation tokens that have a position), ``position_grid`` (h, w), ``patch_size``,
``embed_dims`` and ``num_heads``.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from .plain_vit import block_indexes
from .resize import (
    known_tokens,
    likeliest_grid,
    map_input_channels,
    resize_patch_embed,
    resize_pos_embed,
    resize_relative_positions,
    split_positions,
    split_relative_positions,
)

# Parts that a ViT may be built without though its checkpoint has them, and the options for it.
OPTIONAL = {
    'cls_token': 'class_token=False',
    'dist_token': 'dist_token=False',
    'register_tokens': 'num_registers=0',
    'norm.weight': 'final_norm=False',
    'norm.bias': 'final_norm=False',
}
SIZES = {
    (192, 12): 't', (384, 12): 's', (768, 12): 'b', (1024, 24): 'l',
    (1280, 32): 'h', (1536, 40): 'g', (4096, 40): '7b',
}  # fmt: skip

# Options that a ViT was built with in vain, by what the file lacks; and without, by what it has.
IF_MISSING = {
    'cls_token': 'class_token=False',
    'dist_token': 'dist_token=False',
    'register_tokens': 'num_registers=0',
    r'blocks\.\d+\.attn\.qkv\.bias': 'qkv_bias=False',
    r'blocks\.\d+\.mlp\.(fc1|w12)\.bias': 'ffn_bias=False',
    'pos_embed': "position='rope' or position='relative'",
    'norm.weight': 'final_norm=False',
}
IF_UNEXPECTED = {
    'pos_embed': "position='absolute'",
    r'blocks\.\d+\.relative_bias\.table': "position='relative'",
    r'blocks\.\d+\.ls[12]\.gamma': 'layer_scale=1.0',
    r'blocks\.\d+\.mlp\.w12\.weight': "ffn='swiglu'",
    r'blocks\.\d+\.mlp\.fc1\.weight': "ffn='mlp'",
    r'blocks\.\d+\.mlp\.(fc1|w12)\.bias': 'ffn_bias=True',
    r'blocks\.\d+\.attn\.qkv\.bias': 'qkv_bias=True',
    r'blocks\.\d+\..*\.lora_A\..*': 'lora=dict(r=...), as it was trained',
}


@dataclass
class Fitted:
    """A state dict on its way into a model, and what was done to it.

    Attributes:
        state_dict: names of the model's part -> tensors.
        resized: name -> what was done; ``dropped``: name -> the option that leaves it out;
        problems: name -> why it cannot be fitted.
    """

    state_dict: dict
    resized: dict = field(default_factory=dict)
    dropped: dict = field(default_factory=dict)
    problems: dict = field(default_factory=dict)

    def replace(
        self, name: str, note: str, resize: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> None:
        """Replace a tensor by ``resize(tensor, *args, **kwargs)``, or note why that fails."""
        try:
            self.state_dict[name] = resize(self.state_dict[name], *args, **kwargs)
        except (RuntimeError, ValueError) as error:  # the first where a side is 0
            self.problems[name] = str(error)
        else:
            self.resized[name] = note


def find_vits(module: nn.Module) -> dict[str, Any]:
    """Find the plain ViTs inside a module: prefix of their names -> ViT."""
    return {
        f'{name}.' if name else '': vit
        for name, vit in module.named_modules()
        if hasattr(vit, 'num_prefix_positions') and hasattr(vit, 'position_grid')
    }


def fit_vit(
    fitted: Fitted,
    vit: Any,
    prefix: str,
    *,
    patch_resize: str = 'bilinear',
    position_grid: tuple[int, int] | None = None,
    in_adapter: bool = False,
) -> None:
    """Drop the tokens a ViT was built without, and resize what depends on image and patch size.

    Args:
        fitted: the weights; changed in place. Tensors of an unexpected shape are left as they
            are, for the strict comparison to name.
        vit: the ViT, of which shapes and attributes are read.
        prefix: precedes its names.
        patch_resize: see :func:`resize_patch_embed`.
        position_grid: (h, w) of the file's positions, where they are no square.
        in_adapter: True for the file of an adapter, which was trained with all its tokens.
    """
    state_dict, wanted = fitted.state_dict, vit.state_dict()
    file_tokens = sum(prefix + token in state_dict for token in ('cls_token', 'dist_token'))
    _check_rope(fitted, vit, prefix)
    for leaf, option in OPTIONAL.items():
        if leaf not in wanted and state_dict.pop(prefix + leaf, None) is not None:
            fitted.dropped[prefix + leaf] = option

    for leaf, model_weight in wanted.items():
        name = prefix + leaf
        weight = state_dict.get(name)
        if weight is None or weight.ndim != model_weight.ndim:
            continue
        old, new = tuple(weight.shape), tuple(model_weight.shape)
        if leaf == 'patch_embed.proj.weight' and old[2:] != new[2:]:
            note = f'{_by(old[2:])} -> {_by(new[2:])} pixels, {patch_resize}'
            fitted.replace(name, note, resize_patch_embed, new[2:], patch_resize)
        elif leaf == 'pos_embed' and old[::2] == new[::2]:
            tokens = known_tokens(file_tokens)
            grid = position_grid
            if grid is None and old[1] - prod(vit.position_grid) in tokens:
                grid = vit.position_grid
            split = split_positions(old[1], grid)
            likely = position_grid is None and likeliest_grid(weight, tokens, split)
            if split and likely:
                fitted.problems[name] = (
                    f'{old[1]} positions would be {_by(split[1])} of the image, but neighbours '
                    f'resemble each other as {_by(likely)}: say which, position_grid={likely} or '
                    f'position_grid={split[1]}'
                )
            elif note := _position_note(old[1], grid, vit):
                fitted.replace(
                    name,
                    note,
                    resize_pos_embed,
                    vit.position_grid,
                    vit.num_prefix_positions,
                    file_tokens=file_tokens,
                    grid=grid,
                )
        elif leaf.endswith('.relative_bias.table') and old[1] == new[1]:
            bias = vit.get_submodule(leaf.removesuffix('.table'))
            extra = 3 if bias.class_token else 0
            split = split_relative_positions(old[0], position_grid or bias.grid)
            if split == (bias.grid, extra):
                continue
            if in_adapter and split and split[1] > extra:
                fitted.problems[name] = (
                    'the adapter in the file has a class token: set vit=dict(class_token=True)'
                )
                continue
            note = f'{old[0]} -> {new[0]} relative positions'
            if split and split[0] != bias.grid:
                note += ', bicubic'
            fitted.replace(
                name,
                note,
                resize_relative_positions,
                bias.grid,
                extra,
                position_grid or bias.grid,
            )


def fit_input_channels(
    fitted: Fitted,
    wanted: Mapping[str, Tensor],
    in_channels: int,
    *,
    rgb_channels: Sequence[int] | None,
    extra_channels: str,
) -> None:
    """Give first convolutions the model's image channels.

    A first convolution is one of the model's ``in_channels`` whose weight in the file differs in
    that number alone; where there is none, one of as many in the file.

    Args:
        fitted: the weights; changed in place.
        wanted: name -> tensor of the model.
        in_channels: the model's image channels.
        rgb_channels, extra_channels: see :func:`map_input_channels`.

    Raises:
        ValueError: channels were given, and there is no first convolution.
    """
    first = _first_convolutions(fitted.state_dict, wanted, in_channels)
    if rgb_channels is None:
        for name in first:
            old = fitted.state_dict[name].shape[1]
            if old != in_channels:
                example = tuple(min(i, in_channels - 1) for i in range(old))
                fitted.problems[name] = (
                    f'the file has {old} image channels, the model {in_channels}: say where each '
                    f'goes, rgb_channels={example} for example'
                )
        return
    if not first:
        raise ValueError(
            f'rgb_channels={rgb_channels}: there is no convolution of {in_channels} image channels '
            'that the file fills'
        )
    for name in first:
        before = fitted.resized.get(name)
        note = f'image channels {tuple(rgb_channels)} of {in_channels}, others {extra_channels}'
        note = f'{before}; {note}' if before else note
        fitted.replace(
            name, note, map_input_channels, rgb_channels, in_channels, extra=extra_channels
        )


def _first_convolutions(state_dict, wanted, in_channels):
    differing: list[str] = []
    same: list[str] = []
    for name, model_weight in wanted.items():
        weight = state_dict.get(name)
        if weight is None or weight.ndim != 4 or model_weight.ndim != 4:
            continue
        differs = [i for i in range(4) if weight.shape[i] != model_weight.shape[i]]
        if model_weight.shape[1] == in_channels and differs in ([], [1]):
            (differing if differs else same).append(name)
    return differing or same


@dataclass(frozen=True)
class ViTLooks:
    """The facts about a plain ViT's architecture that its weights tell."""

    width: int
    depth: int
    patch_size: int
    num_registers: int

    @property
    def name(self) -> str:
        """Size and patch, such as 'b/14'."""
        return f'{SIZES.get((self.width, self.depth), "other size")}/{self.patch_size}'

    def __str__(self) -> str:
        registers = f', {self.num_registers} registers' if self.num_registers else ''
        return f'{self.name} ({self.width} wide, {self.depth} blocks{registers})'


def describe_vit(state_dict: Mapping[str, Tensor], prefix: str = '') -> 'ViTLooks | None':
    """Describe the ViT whose weights, in mmhybrid's names, are under a prefix; None if none are."""
    weight = state_dict.get(f'{prefix}patch_embed.proj.weight')
    depth = len(block_indexes(state_dict, prefix))
    if weight is None or weight.ndim != 4 or not depth:
        return None
    registers = state_dict.get(f'{prefix}register_tokens')
    num_registers = registers.shape[1] if registers is not None and registers.ndim == 3 else 0
    return ViTLooks(weight.shape[0], depth, weight.shape[-1], num_registers)


def advise_vit(
    missing: Collection[str], unexpected: Collection[str], prefix: str = ''
) -> list[str]:
    """List the options of a ViT that account for names in one of model and file alone."""
    advice = []
    for names, hints in ((missing, IF_MISSING), (unexpected, IF_UNEXPECTED)):
        for pattern, option in hints.items():
            pattern = re.compile(re.escape(prefix) + pattern)
            if option not in advice and any(map(pattern.fullmatch, names)):
                advice.append(option)
    if any(option.startswith('ffn=') for option in advice):  # its biases go with it
        advice = [option for option in advice if not option.startswith('ffn_bias=')]
    return advice


def _check_rope(fitted, vit, prefix):
    """Compare RoPE's periods in the file with those that the model computes."""
    periods = fitted.state_dict.pop(f'{prefix}rope_embed.periods', None)
    if periods is None:
        return
    count = vit.embed_dims // vit.num_heads // 4
    expected = 100.0 ** (torch.arange(count) / count)
    # Loosely: files may keep the periods in bfloat16.
    if periods.shape != expected.shape or not torch.allclose(periods.float(), expected, rtol=1e-2):
        fitted.problems[f'{prefix}rope_embed.periods'] = (
            f'{periods.numel()} periods up to {float(periods.max()):.1f} in the file, {count} '
            f'up to {float(expected.max()):.1f} in the model: another number of heads (the model '
            f'has {vit.num_heads}) or another RoPE base'
        )


def _position_note(num_rows, grid, vit):
    """Say how a position embedding is resized ('': not at all), and how to keep a finer grid."""
    split = split_positions(num_rows, grid)
    if split is None:
        return 'not understood'
    (tokens, old), new = split, tuple(vit.position_grid)
    notes = []
    if tokens != vit.num_prefix_positions:
        notes.append(f'{tokens} -> {vit.num_prefix_positions} token rows')
    if old != new:
        notes.append(f'{_by(old)} -> {_by(new)} grid, bicubic')
        if old[0] > new[0] or old[1] > new[1]:
            size = tuple(side * vit.patch_size for side in old)
            size = size[0] if size[0] == size[1] else size
            notes.append(f'pretrain_size={size} keeps all of it')
    return ', '.join(notes)


def _by(size):
    return f'{size[0]}x{size[1]}'
