"""Checkpoints of the official CvT, ``microsoft/CvT``."""

import re
from collections.abc import Mapping

from torch import Tensor

from .plain_vit import any_key


def is_cvt(keys: frozenset[str]) -> bool:
    """Return True for the keys of CvT."""
    return any_key(keys, r'stage\d+\.blocks\.\d+\.attn\.proj_q\.weight$')


def convert_cvt(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the original's names to those of :class:`mmhybrid.models.backbones.CvT`."""
    converted = {}
    for key, value in state_dict.items():
        key = re.sub(r'^stage(\d+)\.', r'stages.\1.', key)
        converted[re.sub(r'(\.conv_proj_[qkv])\.bn\.', r'\1.norm.', key)] = value
    return converted
