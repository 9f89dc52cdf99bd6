"""Checkpoints of the official CvT, ``microsoft/CvT``."""

import re
from collections.abc import Mapping

from torch import Tensor


def convert_cvt(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the original's names to those of :class:`mmhybrid.models.backbones.CvT`."""
    converted = {}
    for key, value in state_dict.items():
        key = re.sub(r'^stage(\d+)\.', r'stages.\1.', key)
        converted[re.sub(r'(\.conv_proj_[qkv])\.bn\.', r'\1.norm.', key)] = value
    return converted
