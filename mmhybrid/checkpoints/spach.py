"""Checkpoints of the official SPACH, ``microsoft/SPACH``, multi-stage and single-stage."""

from collections.abc import Mapping

from torch import Tensor

from .renaming import rename

RULES = (
    (r'^norm1\.', 'stem.norm.'),
    (r'^norm2\.', 'norm.'),
    (r'^blocks\.', 'stages.0.blocks.'),
    (r'^layer1\.', 'stages.0.blocks.'),
    (r'^layer(\d)\.0\.net\.1\.0\.', lambda m: f'stages.{int(m[1]) - 1}.downsample.conv.'),
    (r'^layer(\d)\.0\.net\.1\.1\.', lambda m: f'stages.{int(m[1]) - 1}.downsample.norm.'),
    # From the second on, the downsampling is the first entry of a layer.
    (r'^layer(\d)\.(\d+)\.', lambda m: f'stages.{int(m[1]) - 1}.blocks.{int(m[2]) - 1}.'),
    (r'\.spatial_func\.', '.mixing.'),
    (r'\.channel_func\.', '.mlp.'),
    (r'\.cpe_net\.net\.1\.', '.conv.'),
    (r'\.gamma_1$', '.layer_scale.gamma'),
)


def convert_spach(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the original's names to those of :class:`mmhybrid.models.backbones.SPACH`."""
    converted = {}
    for key, value in state_dict.items():
        if key.endswith('.gamma_1'):
            value = value.flatten()  # (1, 1, C) -> (C)
        key = rename(key, RULES)
        converted[key] = value
    return converted
