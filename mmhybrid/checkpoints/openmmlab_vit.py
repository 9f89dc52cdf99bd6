"""Plain ViTs of mmpretrain and mmsegmentation, in mmhybrid's names.

Both call blocks ``layers`` and their parts alike; mmsegmentation's ViT takes its attention from
torch, which has it inside a wrapper.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from .plain_vit import convert_beit
from .renaming import rename

RULES = (
    (r'^layers\.', 'blocks.'),
    (r'^ln1\.', 'norm.'),
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^(blocks\.\d+)\.ln([12])\.', r'\1.norm\2.'),
    (r'\.ffn\.layers\.0\.0\.', '.mlp.fc1.'),
    (r'\.ffn\.layers\.1\.', '.mlp.fc2.'),
    (r'\.ffn\.(w12|w3)\.', r'.mlp.\1.'),
    (r'\.attn\.attn\.in_proj_', '.attn.qkv.'),
    (r'\.attn\.attn\.out_proj\.', '.attn.proj.'),
    (r'\.(attn|ffn)\.gamma([12])\.weight$', r'.ls\2.gamma'),
)


def convert_openmmlab(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert ViT, LayerScale ViT, DeiT III and BEiT to the names of ours.

    mmsegmentation's ViT embeds patches without a bias, which is one of zeros.
    """
    converted = {rename(key, RULES): value for key, value in state_dict.items()}
    weight = converted.get('patch_embed.proj.weight')
    if weight is not None and 'patch_embed.proj.bias' not in converted:
        converted['patch_embed.proj.bias'] = torch.zeros_like(weight.flatten(1)[:, 0])
    return convert_beit(converted)
