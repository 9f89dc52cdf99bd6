"""Checkpoints of the official CMT, ``ggjy/CMT.pytorch`` (``cmt_tiny.pth`` and its like)."""

import re
from collections.abc import Mapping

from torch import Tensor

from .renaming import rename

RULES = (
    (r'^stem_conv(\d)\.', lambda m: f'stem.{3 * int(m[1]) - 3}.'),
    (r'^stem_norm(\d)\.', lambda m: f'stem.{3 * int(m[1]) - 1}.'),
    (r'^relative_pos_([a-d])$', lambda m: f'stages.{_stage(m)}.bias.table'),
    (r'^patch_embed_([a-d])\.proj\.', lambda m: f'stages.{_stage(m)}.patch_embed.0.'),
    (r'^patch_embed_([a-d])\.norm\.', lambda m: f'stages.{_stage(m)}.patch_embed.1.'),
    (r'^blocks_([a-d])\.', lambda m: f'stages.{_stage(m)}.blocks.'),
    (r'^(stages\.\d\.blocks\.\d+\.)proj\.', r'\1lpu.'),
    (r'^(stages\.\d\.blocks\.\d+\.attn\.)sr\.', r'\1reduce.'),
    (r'^(stages\.\d\.blocks\.\d+\.)mlp\.conv1\.0\.', r'\1ffn.expand.'),
    (r'^(stages\.\d\.blocks\.\d+\.)mlp\.conv1\.2\.', r'\1ffn.expand_norm.'),
    (r'^(stages\.\d\.blocks\.\d+\.)mlp\.proj\.', r'\1ffn.dwconv.'),
    (r'^(stages\.\d\.blocks\.\d+\.)mlp\.proj_bn\.', r'\1ffn.dw_norm.'),
    (r'^(stages\.\d\.blocks\.\d+\.)mlp\.conv2\.0\.', r'\1ffn.project.'),
    (r'^(stages\.\d\.blocks\.\d+\.)mlp\.conv2\.1\.', r'\1ffn.project_norm.'),
    (r'^head\.', 'head.fc.'),
    (r'^_fc\.', 'head.conv.'),
    (r'^_bn\.', 'head.norm.'),
)


def convert_cmt(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the original's names to those of :class:`mmhybrid.models.backbones.CMT`.

    The 1x1 convolutions' weights ``(O, I, 1, 1)`` become those of linear layers, ``(O, I)``.
    """
    converted = {}
    for key, value in state_dict.items():
        key = rename(key, RULES)
        if re.search(r'(ffn\.(expand|project)|head\.conv)\.weight$', key):
            value = value.flatten(1)  # (O, I, 1, 1) -> (O, I)
        converted[key] = value
    return converted


def _stage(match: re.Match) -> int:
    return 'abcd'.index(match[1])
