"""Checkpoints of the official CvT, ``microsoft/CvT``."""

import re
from collections.abc import Mapping

from torch import Tensor

from .renaming import rename


def convert_cvt(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the original's names to those of :class:`mmhybrid.models.backbones.CvT`."""
    converted = {}
    for key, value in state_dict.items():
        key = re.sub(r'^stage(\d+)\.', r'stages.\1.', key)
        converted[re.sub(r'(\.conv_proj_[qkv])\.bn\.', r'\1.norm.', key)] = value
    return converted


TRANSFORMERS_RULES = (
    (r'^cvt\.', ''),
    (r'^encoder\.', ''),
    (r'^layernorm\.', 'norm.'),
    (r'^classifier\.', 'head.'),
    (r'\.embedding\.convolution_embeddings\.projection\.', '.patch_embed.proj.'),
    (r'\.embedding\.convolution_embeddings\.normalization\.', '.patch_embed.norm.'),
    (r'^(stages\.\d+)\.layers\.', r'\1.blocks.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
    (r'\.attention\.attention\.', '.attn.'),
    (r'\.attention\.output\.dense\.', '.attn.proj.'),
    (r'\.convolution_projection_(q|k|v)\w+\.convolution_projection\.', r'.conv_proj_\1.'),
    (r'\.convolution\.', '.conv.'),
    (r'\.normalization\.', '.norm.'),
    (r'\.projection_(q|k|v)\w+\.', r'.proj_\1.'),
    (r'\.intermediate\.dense\.', '.mlp.fc1.'),
    (r'\.output\.dense\.', '.mlp.fc2.'),
)


def convert_transformers_cvt(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the names of Hugging Face's transformers to ours."""
    return {rename(key, TRANSFORMERS_RULES): value for key, value in state_dict.items()}
