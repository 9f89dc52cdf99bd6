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

    def compare(name: str, ours: Any, advice: str, entries: Mapping[str, Any] = config) -> None:
        value = entries.get(name, ours)
        if value != ours:
            problems.append(f'{name}={value!r} in the file, {ours!r} in the model: {advice}')

    arch = vit.arch
    heads, eps = config.get('num_attention_heads'), config.get('layer_norm_eps')
    sizes = f'embed_dims={arch.embed_dims}, depth={arch.depth}, num_heads={heads}'
    compare('num_attention_heads', vit.num_heads, f'set arch=dict({sizes}, ...)')
    setting = argument.format(f"norm_cfg=dict(type='LN', eps={eps})")
    compare('layer_norm_eps', arch.norm_cfg.get('eps', 1e-5), f'set {setting}')  # torch's own
    if vit.position == 'rope':
        rotary = config.get('rope_parameters')  # of transformers 5, at the top before
        for entries in (config, rotary if isinstance(rotary, Mapping) else {}):
            compare('rope_theta', ROPE_BASE, 'there is no argument for it', entries)
    # The gate of DINOv2 has an activation of its own, which its config does not name.
    if arch.ffn == 'mlp' or 'use_gated_mlp' in config:
        act = 'gelu' if arch.ffn == 'mlp' else 'silu'
        compare('hidden_act', act, 'there is no argument for it')
    return problems


def position_grid(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the (h, w) of the positions in a file; None if the config does not tell."""
    size, patch = config.get('image_size'), config.get('patch_size')
    sides = list(size) if isinstance(size, (list, tuple)) else [size, size]
    given = [it for it in (*sides, patch) if type(it) is int and it > 0]  # True is no size
    if len(given) != 3 or len(sides) != 2:
        return None
    height, width, patch = given
    return height // patch, width // patch
