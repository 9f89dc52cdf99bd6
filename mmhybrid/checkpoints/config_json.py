"""Facts about a plain ViT that its weights do not tell, from transformers' ``config.json``."""

from collections.abc import Mapping
from typing import Any

# The rotary base of ViT, which is DINOv3's.
ROPE_BASE = 100.0


def check_config(config: Mapping[str, Any], vit: Any, argument: str = '{}') -> list[str]:
    """Compare a config with the ViT that its weights are for.

    Args:
        config: the content of ``config.json``.
        vit: the ViT; its ``num_heads`` and ``arch`` are read.
        argument: format of an argument of the model, ``'vit=dict({})'`` for an adapter's ViT.

    Returns:
        Sentences that name what differs and the argument to set, none if nothing does.
    """
    problems = []

    def differ(name: str, value: Any, ours: Any, advice: str) -> None:
        problems.append(f'{name}={value!r} in the file, {ours!r} in the model: {advice}')

    heads = config.get('num_attention_heads', vit.num_heads)
    if heads != vit.num_heads:
        arch = vit.arch
        settings = f'embed_dims={arch.embed_dims}, depth={arch.depth}, num_heads={heads}'
        differ('num_attention_heads', heads, vit.num_heads, f'set arch=dict({settings}, ...)')
    eps = config.get('layer_norm_eps')
    ours = vit.arch.norm_cfg.get('eps', 1e-5)  # torch's own
    if eps is not None and float(eps) != float(ours):
        setting = argument.format(f"norm_cfg=dict(type='LN', eps={float(eps):g})")
        differ('layer_norm_eps', float(eps), float(ours), f'set {setting}')
    base = config.get('rope_theta', ROPE_BASE)
    if vit.position == 'rope' and float(base) != ROPE_BASE:
        differ('rope_theta', base, ROPE_BASE, 'there is no argument for it')
    act, ours = config.get('hidden_act'), 'gelu'
    if vit.arch.ffn == 'swiglu':  # DINOv2's is fixed, and not in its config
        ours = 'silu' if 'use_gated_mlp' in config else act
    if act is not None and act != ours:
        differ('hidden_act', act, ours, 'there is no argument for it')
    return problems


def position_grid(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the (h, w) of the positions in a file; None if the config does not tell."""
    size, patch = config.get('image_size'), config.get('patch_size')
    height, width = (size if isinstance(size, (list, tuple)) else (size, size))[:2]
    if not all(isinstance(side, int) and side > 0 for side in (height, width, patch)):
        return None
    return height // patch, width // patch
