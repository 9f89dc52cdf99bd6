"""Plain ViTs as their authors published them, in mmhybrid's names.

One pure function a source: state dict in, state dict out, tensors untouched unless said. Names
that a function does not know pass through unchanged; the strict load lists them.
"""

import re
from collections.abc import Iterable, Mapping
from math import isqrt

import torch
from torch import Tensor

from .renaming import rename


def convert_timm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert DeiT, AugReg and every ViT in timm's names; also MAE's encoder.

    SwiGLU's fc1 is our w12, its fc2 our w3. Register tokens have no positions in ours: some of
    timm's models give them rows of the position embedding, after the class token's, which are
    added to the tokens here.
    """
    converted = {}
    for key, value in state_dict.items():
        if match := re.fullmatch(r'(blocks\.\d+\.mlp\.)(fc[12])(\.weight|\.bias)', key):
            first, second = (state_dict.get(f'{match[1]}{fc}.weight') for fc in ('fc1', 'fc2'))
            if is_gated(first, second):
                key = match[1] + {'fc1': 'w12', 'fc2': 'w3'}[match[2]] + match[3]
        converted[key] = value
    registers, positions = converted.pop('reg_token', None), converted.get('pos_embed')
    if registers is None:
        return converted
    start = int('cls_token' in converted)
    stop = start + registers.shape[1]
    if positions is not None and positions.ndim == 3:
        side = isqrt(max(positions.shape[1] - stop, 0))
        if side and side * side + stop == positions.shape[1]:
            registers = registers + positions[:, start:stop]
            converted['pos_embed'] = torch.cat([positions[:, :start], positions[:, stop:]], dim=1)
    converted['register_tokens'] = registers
    return converted


def is_gated(first: Tensor | None, second: Tensor | None) -> bool:
    """Return True if the first of an MLP's weights makes twice the width that the second takes."""
    if first is None or second is None or first.ndim != 2 or second.ndim != 2:
        return False
    return first.shape[0] == 2 * second.shape[1]


def convert_dinov2(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert DINOv2, with and without registers, MLP or SwiGLU.

    Training files keep blocks in chunks, 'blocks.CHUNK.BLOCK.'; BLOCK counts through all chunks.
    ViT-Adapter's and ViT-CoMer's converted files call LayerScale gamma1 and gamma2.
    """
    converted = {}
    for key, value in state_dict.items():
        key = re.sub(r'^blocks\.\d+\.(\d+)\.', r'blocks.\1.', key)
        converted[re.sub(r'\.gamma([12])$', r'.ls\1.gamma', key)] = value
    return converted


def convert_dinov3(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert DINOv3: name storage tokens registers, join SwiGLU's w1 and w2, mask biases.

    'attn.qkv.bias_mask' is applied to 'attn.qkv.bias': its key part is zero, whatever the file
    holds there.
    """
    converted = dict(state_dict)
    for key in state_dict:
        if key.endswith('.qkv.bias_mask'):
            bias, mask = state_dict.get(key.removesuffix('_mask')), state_dict[key]
            if bias is not None and bias.shape == mask.shape:
                masked = torch.where(mask == 0, torch.zeros_like(bias), bias)
                converted[key.removesuffix('_mask')] = masked
                del converted[key]
        elif match := re.fullmatch(r'(.*\.mlp\.)w1\.(weight|bias)', key):
            gate, value = state_dict[key], state_dict.get(f'{match[1]}w2.{match[2]}')
            if value is not None and gate.shape == value.shape:
                converted[f'{match[1]}w12.{match[2]}'] = torch.cat([gate, value])
                del converted[key], converted[f'{match[1]}w2.{match[2]}']
    if 'storage_tokens' in converted:
        converted['register_tokens'] = converted.pop('storage_tokens')
    return converted


def convert_beit(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert BEiT and BEiTv2, the authors' files and timm's.

    Queries and values have a bias, keys have none: ours is one bias with zeros for the keys.
    Pre-training files share one table of relative positions: each block gets a copy, as in the
    authors' fine-tuning. gamma_1 and gamma_2 are LayerScale.
    """
    converted = {}
    for key, value in state_dict.items():
        key = re.sub(r'\.gamma_([12])$', r'.ls\1.gamma', key)
        key = re.sub(r'\.attn\.relative_position_bias_table$', '.relative_bias.table', key)
        converted[key] = value
    for key in [key for key in converted if key.endswith('.attn.q_bias')]:
        attn = key.removesuffix('q_bias')
        query, value = converted[key], converted.get(f'{attn}v_bias')
        if value is not None and query.ndim == 1 and query.shape == value.shape:
            converted[f'{attn}qkv.bias'] = torch.cat([query, torch.zeros_like(query), value])
            del converted[key], converted[f'{attn}v_bias']
    shared = converted.pop('rel_pos_bias.relative_position_bias_table', None)
    if shared is not None:
        for index in block_indexes(converted):
            converted[f'blocks.{index}.relative_bias.table'] = shared.clone()
    return converted


def convert_timm_dinov3(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert DINOv3 from timm: names of its BEiT, registers, and SwiGLU in two matrices."""
    converted = convert_beit(state_dict)
    for key in [key for key in converted if '.mlp.fc1_g.' in key]:
        start, _, kind = key.partition('fc1_g.')
        gate, value = converted[key], converted.get(f'{start}fc1_x.{kind}')
        if value is not None and gate.shape == value.shape:
            converted[f'{start}w12.{kind}'] = torch.cat([gate, value])
            del converted[key], converted[f'{start}fc1_x.{kind}']
            if f'{start}fc2.{kind}' in converted:
                converted[f'{start}w3.{kind}'] = converted.pop(f'{start}fc2.{kind}')
    if 'reg_token' in converted:
        converted['register_tokens'] = converted.pop('reg_token')
    return converted


RELATIVE_POSITIONS = r'(blocks\.\d+\.attn|rel_pos_bias)\.relative_position_bias_table$'

AUGREG_RULES = (
    (r'^cls$', 'cls_token'),
    (r'^embedding/', 'patch_embed.proj/'),
    (r'^Transformer/posembed_input/pos_embedding$', 'pos_embed'),
    (r'^Transformer/encoder_norm/', 'norm/'),
    (r'^Transformer/encoderblock_(\d+)/', r'blocks.\1.'),
    (r'LayerNorm_0/', 'norm1/'),
    (r'LayerNorm_2/', 'norm2/'),
    (r'MlpBlock_3/Dense_0/', 'mlp.fc1/'),
    (r'MlpBlock_3/Dense_1/', 'mlp.fc2/'),
    (r'MultiHeadDotProductAttention_1/(query|key|value)/', r'attn.\1/'),
    (r'MultiHeadDotProductAttention_1/out/', 'attn.proj/'),
    (r'/(kernel|scale)$', '.weight'),
    (r'/bias$', '.bias'),
)


def convert_augreg(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert Google's AugReg, in Flax's names: a kernel's last dimension is that of its output.

    Queries, keys and values, of each head in Flax, become one matrix.
    """
    converted = {}
    for key, value in state_dict.items():
        name = rename(key, AUGREG_RULES)
        if name == 'patch_embed.proj.weight':
            value = value.permute(3, 2, 0, 1)  # (h, w, C_in, C_out) -> (C_out, C_in, h, w)
        elif re.search(r'\.attn\.(query|key|value)\.', name):
            # (C, heads, D) -> (heads D, C); (heads, D) -> (heads D)
            value = value.flatten(1).T if key.endswith('/kernel') else value.flatten()
        elif key.endswith('/kernel'):
            value = value.flatten(0, -2).T  # (C, C') or (heads, D, C') -> (C', C)
        converted[name] = value
    for query in [name for name in converted if '.attn.query.' in name]:
        names = [query.replace('.query.', f'.{part}.') for part in ('query', 'key', 'value')]
        if all(name in converted for name in names):
            parts = [converted.pop(name) for name in names]
            converted[query.replace('.query.', '.qkv.')] = torch.cat(parts)
    return converted


def block_indexes(keys: Iterable[str], prefix: str = '') -> list[int]:
    """Return the sorted indexes I of the keys '{prefix}blocks.I....'."""
    pattern = re.compile(re.escape(prefix) + r'blocks\.(\d+)\.')
    return sorted({int(match[1]) for match in map(pattern.match, keys) if match})


def any_key(keys: Iterable[str], pattern: str) -> bool:
    """Return True if a key matches the regular expression from its start."""
    return any(re.match(pattern, key) for key in keys)


def is_beit(keys: Iterable[str]) -> bool:
    """Return True for a plain ViT with the biases of BEiT, such as the one in an adapter."""
    return any_key(keys, rf'.*\.attn\.q_bias$|{RELATIVE_POSITIONS}')
