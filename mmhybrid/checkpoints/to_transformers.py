"""Plain ViTs back in the form of Hugging Face's transformers: names of weights, and a config."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files import write_atomically
from .errors import CheckpointError
from .plain_vit import block_indexes
from .renaming import rename
from .report import listing

# model_type -> the class that loads it
CLASSES = {
    'vit': 'ViTModel',
    'deit': 'DeiTModel',
    'beit': 'BeitModel',
    'dinov2': 'Dinov2Model',
    'dinov2_with_registers': 'Dinov2WithRegistersModel',
    'dinov3_vit': 'DINOv3ViTModel',
}

RULES = (
    (r'^blocks\.', 'encoder.layer.'),
    (r'^norm\.', 'layernorm.'),
    (r'^pos_embed$', 'embeddings.position_embeddings'),
    (r'^dist_token$', 'embeddings.distillation_token'),
    (r'^patch_embed\.proj\.', 'embeddings.patch_embeddings.projection.'),
    (r'^(cls_token|register_tokens)$', r'embeddings.\1'),
    (r'\.attn\.(query|key|value)\.', r'.attention.attention.\1.'),
    (r'\.attn\.proj\.', '.attention.output.dense.'),
    (r'\.ls([12])\.gamma$', r'.layer_scale\1.lambda1'),
    (r'\.mlp\.w12\.', '.mlp.weights_in.'),
    (r'\.mlp\.w3\.', '.mlp.weights_out.'),
)
# What a model calls otherwise than DINOv2, whose names are those above.
OLD_BLOCK = (
    (r'\.norm1\.', '.layernorm_before.'),
    (r'\.norm2\.', '.layernorm_after.'),
    (r'\.mlp\.fc1\.', '.intermediate.dense.'),
    (r'\.mlp\.fc2\.', '.output.dense.'),
)
OTHER_NAMES = {
    'vit': OLD_BLOCK,
    'deit': OLD_BLOCK,
    'beit': (
        *OLD_BLOCK,
        (r'\.layer_scale([12])\.lambda1$', r'.lambda_\1'),
        (
            r'\.relative_bias\.table$',
            '.attention.attention.relative_position_bias.relative_position_bias_table',
        ),
    ),
    'dinov3_vit': (
        (r'^encoder\.', ''),
        (r'^layernorm\.', 'norm.'),
        (r'^(embeddings\.patch_embeddings)\.projection\.', r'\1.'),
        (r'\.attention\.attention\.(q|k|v)[a-z]+\.', r'.attention.\1_proj.'),
        (r'\.attention\.output\.dense\.', '.attention.o_proj.'),
        (r'\.mlp\.fc1\.', '.mlp.up_proj.'),
        (r'\.mlp\.(fc2|weights_out)\.', '.mlp.down_proj.'),
    ),
}


def to_transformers(
    state_dict: Mapping[str, Tensor],
    *,
    num_heads: int,
    norm_eps: float,
    mask_key_bias: bool = False,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Convert a plain ViT's weights to those of a model of transformers.

    The model is the one of the same parts: rotary positions are DINOv3's, relative ones BEiT's,
    registers or LayerScale beside absolute ones DINOv2's.

    Args:
        state_dict: weights in mmhybrid's names, of a ViT with its class token and final norm.
        num_heads: heads of its attention.
        norm_eps: eps of its norms.
        mask_key_bias: True for a ViT that holds the bias of keys at zero, whatever is there.

    Returns:
        (weights in the names of transformers, content of ``config.json``).

    Raises:
        CheckpointError: transformers has no such model.
    """
    kind = _kind(state_dict)
    try:
        return _convert(state_dict, kind, num_heads, norm_eps, mask_key_bias)
    except CheckpointError:
        raise
    except (ArithmeticError, IndexError, KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f'these are not the weights of a whole plain ViT: {type(error).__name__}: {error}'
        ) from error


def _convert(
    state_dict: Mapping[str, Tensor],
    kind: str,
    num_heads: int,
    norm_eps: float,
    mask_key_bias: bool,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    width, _, _, patch = state_dict['patch_embed.proj.weight'].shape
    depth = len(block_indexes(state_dict))
    config = dict(
        model_type=kind,
        architectures=[CLASSES[kind]],
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=num_heads,
        num_channels=state_dict['patch_embed.proj.weight'].shape[1],
        patch_size=patch,
        layer_norm_eps=norm_eps,
        hidden_act='gelu',
        torch_dtype=str(state_dict['patch_embed.proj.weight'].dtype).removeprefix('torch.'),
    )
    weights = dict(state_dict)
    config |= _positions(weights, kind, patch)
    config |= _feed_forward(weights, kind)
    config |= _attention(weights, kind, depth, mask_key_bias)
    if 'register_tokens' in weights:
        config['num_register_tokens'] = weights['register_tokens'].shape[1]
    if kind == 'beit':
        config['layer_scale_init_value'] = 0.1 if 'blocks.0.ls1.gamma' in weights else 0
        config['use_mean_pooling'] = 'norm.weight' not in weights
    # No backbone reads it, but these models have one.
    shapes = {'dinov2_with_registers': (1, width), 'dinov3_vit': (1, 1, width)}
    if kind in shapes:
        weights['embeddings.mask_token'] = weights['cls_token'].new_zeros(shapes[kind])
    if kind == 'dinov2':
        config['use_mask_token'] = False
    rules = (*RULES, *OTHER_NAMES.get(kind, ()))
    return {rename(name, rules): value.contiguous() for name, value in weights.items()}, config


def write_transformers(folder: Path, weights: Mapping[str, Tensor], config: Mapping) -> None:
    """Write weights and config to a new folder that transformers loads, in one step.

    Raises:
        FileExistsError: the folder is there.
    """
    from safetensors.torch import save_file

    if folder.exists():
        raise FileExistsError(f'{folder} is there already; give a new folder')
    with write_atomically(folder) as draft:
        draft.mkdir()
        copies = {name: tensor.detach().clone() for name, tensor in weights.items()}
        save_file(copies, draft / 'model.safetensors', metadata={'format': 'pt'})
        (draft / 'config.json').write_text(json.dumps(config, indent=2) + '\n', encoding='utf-8')


def _kind(state_dict: Mapping[str, Tensor]) -> str:
    """Return the model_type that has the parts of a ViT."""
    block = {name.removeprefix('blocks.0.') for name in state_dict if name.startswith('blocks.0.')}
    absolute, scaled = 'pos_embed' in state_dict, 'ls1.gamma' in block
    gated, registers = 'mlp.w12.weight' in block, 'register_tokens' in state_dict
    if 'relative_bias.table' in block:
        kind, misfit = 'beit', registers or gated or absolute
    elif not absolute:
        kind, misfit = 'dinov3_vit', not scaled
    elif registers:
        kind, misfit = 'dinov2_with_registers', not scaled
    elif scaled or gated:
        kind, misfit = 'dinov2', not scaled
    else:
        kind, misfit = 'deit' if 'dist_token' in state_dict else 'vit', False
    if misfit or (kind != 'deit' and 'dist_token' in state_dict):
        raise CheckpointError(
            f'transformers has no model of these parts together; its {CLASSES[kind]} comes nearest'
        )
    needed = ['patch_embed.proj.weight', 'patch_embed.proj.bias', 'cls_token']
    needed += [] if kind == 'beit' else ['norm.weight', 'norm.bias']
    layers = ('w12', 'w3') if gated else ('fc1', 'fc2')
    parts = {'norm1.weight', 'norm1.bias', 'norm2.weight', 'norm2.bias', 'attn.qkv.weight'}
    parts |= {'attn.proj.weight', 'attn.proj.bias', *(f'mlp.{layer}.weight' for layer in layers)}
    if kind != 'dinov3_vit':
        parts |= {f'mlp.{layer}.bias' for layer in layers}
    for index in block_indexes(state_dict):  # all have what the first has
        needed += [f'blocks.{index}.{part}' for part in sorted(parts | block)]
    if missing := [name for name in needed if name not in state_dict]:
        raise CheckpointError(
            f"transformers' {CLASSES[kind]} has what these weights lack: {listing(missing)}. It "
            'takes the weights of a plain ViT, with class_token=True and final_norm=True'
        )
    return kind


def _positions(weights: dict[str, Tensor], kind: str, patch: int) -> dict[str, Any]:
    """Give positions the rows that transformers has, and return what its config says of them."""
    if kind == 'dinov3_vit':
        return dict(rope_theta=100.0)
    if kind == 'beit':
        side = (math.isqrt(weights['blocks.0.relative_bias.table'].shape[0] - 3) + 1) // 2
        return dict(image_size=side * patch, use_relative_position_bias=True)
    positions, tokens = weights['pos_embed'], 2 if kind == 'deit' else 1
    side = math.isqrt(positions.shape[1])
    if side * side == positions.shape[1]:  # DeiT III: tokens have no positions
        zeros = positions.new_zeros(1, tokens, positions.shape[2])
        weights['pos_embed'] = torch.cat([zeros, positions], dim=1)
    elif side * side != positions.shape[1] - tokens:
        raise CheckpointError(
            f'transformers resizes square grids of positions alone, and {positions.shape[1]} rows '
            'are none: load them into a ViT of a square pretrain_size first'
        )
    return dict(image_size=side * patch)


def _feed_forward(weights: dict[str, Tensor], kind: str) -> dict[str, Any]:
    """Split gates where transformers has them apart; return what its config says of the layers."""
    if 'blocks.0.mlp.w3.weight' not in weights:
        hidden, width = weights['blocks.0.mlp.fc1.weight'].shape
        has_bias = 'blocks.0.mlp.fc1.bias' in weights
        ratio = _ratio(hidden, width)
        return dict(mlp_ratio=ratio, intermediate_size=hidden, mlp_bias=has_bias)
    width, hidden = weights['blocks.0.mlp.w3.weight'].shape
    if kind == 'dinov3_vit':
        for name in [name for name in weights if '.mlp.w12.' in name]:
            gate, up = weights.pop(name).chunk(2)
            weights[name.replace('w12', 'gate_proj')] = gate
            weights[name.replace('w12', 'up_proj')] = up
        return dict(
            intermediate_size=hidden,
            use_gated_mlp=True,
            hidden_act='silu',
            mlp_bias='blocks.0.mlp.w3.bias' in weights,
        )
    # DINOv2's hidden width is two thirds of this, rounded up to a multiple of 8.
    if hidden % 8:
        raise CheckpointError(
            f"transformers' {CLASSES[kind]} rounds the width of its gates to multiples of 8, and "
            f'these are {hidden} wide: it has no such model'
        )
    return dict(mlp_ratio=_ratio(hidden * 3 // 2, width), use_swiglu_ffn=True)


def _ratio(hidden: int, width: int) -> float:
    """Return the ratio of which ``int(width * ratio)``, as transformers computes, is hidden."""
    ratio = hidden / width
    # A quotient that was rounded down loses a unit there; the next number has all of it.
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def _attention(
    weights: dict[str, Tensor], kind: str, depth: int, mask_key_bias: bool
) -> dict[str, Any]:
    """Split queries, keys and values; return what the config says of their biases."""
    has_bias = 'blocks.0.attn.qkv.bias' in weights
    # Without rotation a bias of the keys changes no attention: BEiT has none.
    key_bias = kind == 'dinov3_vit' and has_bias and not mask_key_bias
    needs_key_bias = key_bias or kind not in ('dinov3_vit', 'beit')
    for name in [name for name in weights if '.attn.qkv.' in name]:
        parts = zip(('query', 'key', 'value'), weights.pop(name).chunk(3), strict=True)
        for part, value in parts:
            if part == 'key' and name.endswith('.bias') and not needs_key_bias:
                continue
            weights[name.replace('qkv', part)] = value
    if kind == 'dinov3_vit':
        return dict(query_bias=has_bias, key_bias=key_bias, value_bias=has_bias)
    if kind == 'beit':
        for i in range(depth if not has_bias else 0):  # its queries and values have one always
            for part in ('query', 'value'):
                weight = weights[f'blocks.{i}.attn.{part}.weight']
                weights[f'blocks.{i}.attn.{part}.bias'] = weight.new_zeros(len(weight))
        return {}
    return dict(qkv_bias=has_bias)
