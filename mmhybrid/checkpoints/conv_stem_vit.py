"""Checkpoints of ViT_C and ViT_P in ``facebookresearch/pycls``."""

from collections.abc import Mapping

from torch import Tensor

from .renaming import rename

RULES = (
    (r'^stem\.cstem(\d+)_conv\.', r'stem.layers.\1.0.'),
    (r'^stem\.cstem(\d+)_bn\.', r'stem.layers.\1.1.'),
    (r'^stem\.(cstem_last_conv|patchify)\.', 'stem.proj.'),
    (r'^encoder\.block_(\d+)\.', r'blocks.\1.'),
    (r'^(blocks\.\d+)\.ln_([12])\.', r'\1.norm\2.'),
    (r'^(blocks\.\d+)\.self_attention\.block\.in_proj_', r'\1.attn.qkv.'),
    (r'^(blocks\.\d+)\.self_attention\.block\.out_proj\.', r'\1.attn.proj.'),
    (r'^(blocks\.\d+)\.mlp_block\.linear_([12])\.', r'\1.mlp.fc\2.'),
    (r'^encoder\.ln\.', 'norm.'),
    (r'^head\.head_fc\.', 'head.'),
    (r'^class_token$', 'cls_token'),
)


def convert_conv_stem_vit(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the original's names to those of :class:`mmhybrid.models.backbones.ConvStemViT`.

    The original's tokens, and so its positions ``(L, 1, C)``, have the batch second.
    """
    converted = {rename(key, RULES): value for key, value in state_dict.items()}
    positions = converted.pop('pos_embedding', None)
    if positions is not None:
        converted['pos_embed'] = positions.transpose(0, 1)  # (L, 1, C) -> (1, L, C)
    return converted
