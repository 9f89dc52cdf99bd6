"""Plain ViTs as Hugging Face's transformers saves them, in mmhybrid's names.

Its DINOv2, DINOv2 with registers, DINOv3, ViT, DeiT, BEiT and ViTMAE differ in a few names and
share the rest; a model with a head puts its name before those of its backbone.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from .plain_vit import block_indexes
from .renaming import rename

WRAPPER = r'(vit|deit|beit|data2vec_vision|dinov2|dinov2_with_registers|dinov3_vit)\.'
LAYER = rf'({WRAPPER})?(encoder\.)?layer\.\d+\.'

# Keys of the heads, pooling layers and decoders around these backbones.
UNUSED = (
    r'((cls_|distillation_)?classifier|lm_head|decoder|decode_head|auxiliary_head|fpn[12])\.|'
    rf'({WRAPPER})?(pooler\.|embeddings\.mask_token$)'
)

RULES = (
    (rf'^{WRAPPER}', ''),
    (r'^embeddings\.distillation_token$', 'dist_token'),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.patch_embeddings\.(projection\.)?', 'patch_embed.proj.'),
    (r'^embeddings\.', ''),
    (r'^layernorm\.', 'norm.'),
    (r'^(encoder\.)?layer\.', 'blocks.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
    (r'\.attention\.(attention\.)?(q|k|v)(uery|ey|alue|_proj)\.', r'.attn.\2.'),
    (r'\.attention\.(output\.dense|o_proj)\.', '.attn.proj.'),
    (r'\.attention\.attention\.relative_position_bias\.\w+$', '.relative_bias.table'),
    (r'\.intermediate\.dense\.', '.mlp.fc1.'),
    (r'\.output\.dense\.', '.mlp.fc2.'),
    (r'\.mlp\.weights_in\.', '.mlp.w12.'),
    (r'\.mlp\.weights_out\.', '.mlp.w3.'),
    (r'\.(layer_scale|lambda_)([12])(\.lambda1)?$', r'.ls\2.gamma'),
)


def convert_transformers(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a plain ViT of transformers to the names of :class:`mmhybrid.models.backbones.ViT`.

    Queries, keys and values become one matrix; where some of them have a bias, the others get one
    of zeros (keys in BEiT and DINOv3). DINOv3's gate and value become one matrix, as in DINOv2. One
    table of relative positions for all blocks is copied to each, as in BEiT's fine-tuning.
    """
    converted = {}
    for key, value in state_dict.items():
        key = rename(key, RULES)
        converted[key] = value
    shared = converted.pop('encoder.relative_position_bias.relative_position_bias_table', None)
    for index in block_indexes(converted):
        block = f'blocks.{index}.'
        _join_attention(converted, f'{block}attn.')
        _name_mlp(converted, f'{block}mlp.')
        if shared is not None:
            converted[f'{block}relative_bias.table'] = shared.clone()
    return converted


def _join_attention(converted: dict[str, Tensor], attn: str) -> None:
    """Put queries, keys and values into one matrix and one bias, if all three are there."""
    names = [f'{attn}{part}' for part in 'qkv']
    if not all(f'{name}.weight' in converted for name in names):
        return
    weights = [converted.pop(f'{name}.weight') for name in names]
    converted[f'{attn}qkv.weight'] = torch.cat(weights)
    if any(f'{name}.bias' in converted for name in names):
        converted[f'{attn}qkv.bias'] = torch.cat(
            [
                converted.pop(f'{name}.bias', weight.new_zeros(weight.shape[:1]))
                for name, weight in zip(names, weights, strict=True)
            ]
        )


def _name_mlp(converted: dict[str, Tensor], mlp: str) -> None:
    """Name the layers of DINOv3's feed-forward network, whose names depend on its gate."""
    is_gated = f'{mlp}gate_proj.weight' in converted
    first, second = ('w12', 'w3') if is_gated else ('fc1', 'fc2')
    for kind in ('weight', 'bias'):
        parts = [f'{mlp}gate_proj.{kind}'] if is_gated else []
        parts += [f'{mlp}up_proj.{kind}']
        if all(part in converted for part in parts):
            converted[f'{mlp}{first}.{kind}'] = torch.cat([converted.pop(part) for part in parts])
        if f'{mlp}down_proj.{kind}' in converted:
            converted[f'{mlp}{second}.{kind}'] = converted.pop(f'{mlp}down_proj.{kind}')
