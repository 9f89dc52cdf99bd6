"""Checkpoints of the official ViT-CoMer, ``Traffic-X/ViT-CoMer``, detection and segmentation."""

from collections.abc import Mapping

from torch import Tensor

from .adapter import convert_adapter

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
    """Convert the original's names to those of :class:`mmhybrid.models.backbones.ViTCoMer`.

    Parameters that the original never uses are left out: the norms around a CNN-branch interaction
    that is not there, and the MRFP of a stage without CTI to the ViT.
    """
    converted = convert_adapter(state_dict, STAGE_RULES)
    return {key: value for key, value in converted.items() if not _unused(key, converted)}


def _unused(key: str, converted: Mapping[str, Tensor]) -> bool:
    for part, needed in (
        ('.interaction.outer_', '.interaction.attn.value_proj.weight'),
        ('.mrfp.', '.to_vit.gamma'),
    ):
        owner, found, _ = key.partition(part)
        if found:
            return owner + needed not in converted
    return False
