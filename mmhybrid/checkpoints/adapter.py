"""Names that the published adapters share: the wrapped ViT, the convolutions, the last norms."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from .plain_vit import convert_beit, convert_dinov2, is_beit
from .renaming import Rule, rename

VIT_KEYS = ('patch_embed.', 'blocks.', 'pos_embed', 'cls_token')
RULES = (
    (r'^spm\.stem\.(\d+)\.', lambda m: f'cnn.stem.{int(m[1]) // 3}.{int(m[1]) % 3}.'),
    (r'^spm\.conv(\d)\.(\d)\.', lambda m: f'cnn.stages.{int(m[1]) - 2}.{m[2]}.'),
    (r'^spm\.fc(\d)\.', lambda m: f'cnn.projections.{int(m[1]) - 1}.'),
    (r'^up\.', 'upsample.'),
    (r'^norm(\d)\.', lambda m: f'norms.{int(m[1]) - 1}.'),
)


def convert_adapter(
    state_dict: Mapping[str, Tensor], stage_rules: Sequence[Rule]
) -> dict[str, Tensor]:
    """Convert names of an original that began as ViT-Adapter did to those of mmhybrid's adapters.

    The wrapped ViT comes out under ``vit.`` with the names of a plain ViT, and without the row that
    the original's position embedding keeps for a class token it does not have.

    Args:
        state_dict: the original's.
        stage_rules: regular expression -> replacement, for what follows ``interactions.I.``.
    """
    converted, vit = {}, {}
    for key, value in state_dict.items():
        if key.startswith(VIT_KEYS):
            vit[key] = value
        elif key.startswith('interactions.'):
            _, stage, name = key.split('.', 2)
            converted[f'stages.{stage}.{rename(name, stage_rules)}'] = value
        else:
            converted[rename(key, RULES)] = value
    if 'pos_embed' in vit:
        vit['pos_embed'] = vit['pos_embed'][:, 1:]
        vit.pop('cls_token', None)
    if is_beit(vit):
        vit = convert_beit(
            {key: value for key, value in vit.items() if not key.endswith('_position_index')}
        )
    else:
        vit = convert_dinov2(vit)
    return {f'vit.{key}': value for key, value in vit.items()} | converted
