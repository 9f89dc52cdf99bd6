"""Checkpoints of the official ViT-CoMer, ``Traffic-X/ViT-CoMer``, detection and segmentation."""

import re
from collections.abc import Mapping

from torch import Tensor

ADAPTER_RULES = (
    (r'spm\.stem\.(\d+)\.', lambda m: f'cnn.stem.{int(m[1]) // 3}.{int(m[1]) % 3}.'),
    (r'spm\.conv(\d)\.(\d)\.', lambda m: f'cnn.stages.{int(m[1]) - 2}.{m[2]}.'),
    (r'spm\.fc(\d)\.', lambda m: f'cnn.projections.{int(m[1]) - 1}.'),
    (r'up\.', 'upsample.'),
    (r'norm(\d)\.', lambda m: f'norms.{int(m[1]) - 1}.'),
)
STAGE_RULES = (
    (r'mrfp\.dwconv\.dwconv([135])\.', lambda m: f'mrfp.conv3x3.{int(m[1]) // 2}.'),
    (r'mrfp\.dwconv\.dwconv([246])\.', lambda m: f'mrfp.conv5x5.{int(m[1]) // 2 - 1}.'),
    (r'mrfp\.dwconv\.bn(\d)\.', lambda m: f'mrfp.norms.{int(m[1]) - 1}.'),
    (r'cti_tov\.', 'to_vit.'),
    (r'cti_toc\.', 'to_cnn.'),
    (r'extra_CTIs\.', 'extra.'),
    (r'feat_norm\.', 'value_norm.'),
    (r'ffn\.dwconv\.dwconv\.', 'ffn.dwconv.'),
    # The norms around the CNN-branch interaction stand beside it in the original; without the
    # interaction they are there too, but never used.
    (r'^(to_cnn|extra\.\d+)\.(query_norm|value_norm)\.', r'\1.interaction.outer_\2.'),
    (r'cfinter\.', 'interaction.'),
)


def convert_vit_comer(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of :class:`mmhybrid.models.backbones.ViTCoMer` for the original's.

    The wrapped ViT comes out under ``vit.`` with the names of a plain ViT, and without the row that
    the original's position embedding keeps for a class token it does not have. Parameters that the
    original never uses are left out: the norms around a CNN-branch interaction that is not there.
    """
    converted = {}
    for key, value in state_dict.items():
        if key.startswith('interactions.'):
            _, stage, name = key.split('.', 2)
            for pattern, replacement in STAGE_RULES:
                name = re.sub(pattern, replacement, name)
            name = f'stages.{stage}.{name}'
        elif key.startswith(('patch_embed.', 'blocks.', 'pos_embed', 'cls_token')):
            name = 'vit.' + re.sub(r'\.gamma([12])$', r'.ls\1.gamma', key)
        else:
            name = key
            for pattern, replacement in ADAPTER_RULES:
                name = re.sub(f'^{pattern}', replacement, name)
        converted[name] = value
    positions = converted.get('vit.pos_embed')
    if positions is not None:
        converted['vit.pos_embed'] = positions[:, 1:]
    converted.pop('vit.cls_token', None)
    return {key: value for key, value in converted.items() if not _unused(key, converted)}


def _unused(key: str, converted: Mapping[str, Tensor]) -> bool:
    block, found, _ = key.partition('.interaction.outer_')
    return bool(found) and f'{block}.interaction.attn.value_proj.weight' not in converted
