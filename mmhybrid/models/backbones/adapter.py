"""What the adapters of a plain ViT share: how they wrap it, and how their new layers begin."""

import math
from collections.abc import Sequence
from types import SimpleNamespace

from torch import Tensor, nn

from ..kernels import resize_map, split_levels
from ..layers import MSDeformAttention
from .base import Backbone
from .vit import ViT


def wrap_vit(
    adapter: Backbone, arch: SimpleNamespace, overrides: dict, drop_path_rate: float
) -> ViT:
    """Build the ViT that an adapter wraps: patch size 16, no class token, LayerScale from 1.0.

    Args:
        adapter: lends its ``in_channels``, ``with_cp`` and ``frozen_stages``.
        arch: its ``embed_dims``, ``depth``, ``num_heads``, ``mlp_ratio`` and ``windows``, which are
            repeated to the depth.
        overrides: what the caller wants otherwise, arguments of :class:`ViT`.
        drop_path_rate: of the last block.
    """
    windows = arch.windows
    if not isinstance(windows, int) and 0 < len(windows) < arch.depth:
        if arch.depth % len(windows):
            raise ValueError(
                f'the {len(windows)} windows {tuple(windows)} of {type(adapter).__name__} (a '
                f'pattern that is repeated) do not divide {arch.depth} blocks; set windows=0, or '
                'one for each block'
            )
        windows = tuple(windows) * (arch.depth // len(windows))
    sizes = ('embed_dims', 'depth', 'num_heads', 'mlp_ratio')
    settings = dict(
        arch={key: getattr(arch, key) for key in sizes},
        in_channels=adapter.in_channels,
        windows=windows,
        class_token=False,
        layer_scale=1.0,
        drop_path_rate=drop_path_rate,
        with_cp=adapter.with_cp,
        frozen_stages=adapter.frozen_stages,
    )
    for name in ('out_indices', 'final_norm'):
        if overrides.get(name):
            raise ValueError(
                f'{name}={overrides[name]!r} in vit=dict(...): {type(adapter).__name__} takes the '
                "ViT's tokens, not its maps; leave it out"
            )
    vit = ViT(**{**settings, **overrides})
    if vit.patch_size != 16:
        raise ValueError(
            f'{type(adapter).__name__} joins a ViT of patch size 16 to its stride 16, got '
            f'{vit.patch_size}; set vit=dict(patch_size=16): patch embeddings are resized on '
            'loading'
        )
    if (vit.embed_dims, vit.depth) != (arch.embed_dims, arch.depth):
        raise ValueError(
            f'the ViT has {vit.depth} blocks of width {vit.embed_dims}, but arch says '
            f'{arch.depth} of width {arch.embed_dims}; give the same size to both'
        )
    return vit


def group_blocks(
    depth: int, interaction_indexes: Sequence[Sequence[int]] | None
) -> tuple[tuple[int, int], ...]:
    """First and last block of each stage: as given, or four equal groups."""
    groups = interaction_indexes
    if groups is None:
        if depth % 4:
            raise ValueError(
                f'{depth} blocks do not make four equal stages; give interaction_indexes'
            )
        step = depth // 4
        groups = [(first, first + step - 1) for first in range(0, depth, step)]
    if not all(groups):
        raise ValueError(f'interaction_indexes={list(groups)} have an empty stage')
    groups = tuple((group[0], group[-1]) for group in groups)
    covered = [block for first, last in groups for block in range(first, last + 1)]
    if covered != list(range(depth)):
        raise ValueError(
            f'interaction_indexes={list(groups)} do not cover the {depth} blocks of the ViT one '
            f'after another; expected first and last blocks such as '
            f'[(0, {depth // 2 - 1}), ({depth // 2}, {depth - 1})]'
        )
    return groups


def merge_maps(
    adapter: Backbone,
    maps: Sequence[Tensor | None],
    features: Sequence[Tensor | None],
    grid: tuple[int, int],
    size: tuple[int, int],
) -> tuple[Tensor, ...]:
    """Add the ViT's features to the maps of an adapter's pyramid, and normalise them.

    Args:
        adapter: has ``upsample``, ``norms``, ``levels`` and ``out_strides``.
        maps: of strides 4, 8, 16 and 32; the first is not read where level 0 is not put out.
        features: patch tokens ``(N, h * w, C)`` of the ViT for each level, None to add nothing.
        grid: ``(h, w)``.
        size: of the image before it was padded.
    """
    features = [None if f is None else split_levels(f, [grid])[0] for f in features]
    outs = []
    for level, stride in zip(adapter.levels, adapter.out_strides, strict=True):
        out = adapter.upsample(maps[1]) + maps[0] if level == 0 else maps[level]
        if features[level] is not None:
            out = out + resize_map(features[level], tuple(out.shape[2:]))
        outs.append(adapter.crop_map(adapter.norms[str(level)](out), size, stride))
    return tuple(outs)


def init_layer(module: nn.Module) -> None:
    """Initial values of one layer of an adapter, as in ViT-Adapter; for ``Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, MSDeformAttention):
        module.reset_parameters()
