"""Checkpoints of the official STA, the backbone of ``Intellindust-AI-Lab/DEIMv2``."""

import re
from collections.abc import Mapping

from torch import Tensor

from .plain_vit import convert_dinov3
from .renaming import rename

RULES = (
    (r'^sta\.stem\.', 'cnn.stem.'),
    (r'^sta\.conv(\d)\.', lambda m: f'cnn.stages.{int(m[1]) - 2}.'),
    # A level's convolution and its norm; level 0, of stride 4, is ours.
    (r'^convs\.(\d)\.', lambda m: f'fusions.{int(m[1]) + 1}.0.'),
    (r'^norms\.(\d)\.', lambda m: f'fusions.{int(m[1]) + 1}.1.'),
)
VIT = re.compile(r'dinov3\.(_model\.)?')


def convert_sta(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the original's names to those of :class:`mmhybrid.models.backbones.STA`.

    The ViT has those of DINOv3, behind ``dinov3.``, or ``dinov3._model.`` where it is one that the
    authors distilled.
    """
    converted, vit = {}, {}
    for key, value in state_dict.items():
        if match := VIT.match(key):
            vit[key[match.end() :]] = value
            continue
        key = rename(key, RULES)
        converted[key] = value
    return {f'vit.{key}': value for key, value in convert_dinov3(vit).items()} | converted
