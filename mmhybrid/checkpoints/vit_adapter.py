"""Checkpoints of the official ViT-Adapter, ``czczup/ViT-Adapter``, detection and segmentation."""

from collections.abc import Mapping

from torch import Tensor

from .adapter import convert_adapter

STAGE_RULES = (
    (r'^extra_extractors\.', 'extra.'),
    (r'feat_norm\.', 'value_norm.'),
    (r'ffn\.dwconv\.dwconv\.', 'ffn.dwconv.'),
)


def convert_vit_adapter(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the original's names to those of :class:`mmhybrid.models.backbones.ViTAdapter`."""
    return convert_adapter(state_dict, STAGE_RULES)
