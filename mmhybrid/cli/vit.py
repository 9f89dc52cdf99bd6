"""Configs that take any plain ViT: its architecture, its weights, and the widths behind it.

Such a config has a top-level ``vit``, an architecture of :class:`mmhybrid.ViT`, and is written for
it. Another is asked for by that option, or by weights, which tell what they are of.
"""

import contextlib
import re
from collections.abc import Container, Mapping, Sequence
from math import ceil, isqrt
from typing import TYPE_CHECKING, Any

from .usage import UsageError

if TYPE_CHECKING:
    from mmengine.config import Config

PATCH = 16  # of what pyramids and adapters take; patch embeddings are resized on loading
# Parts of a ViT by which its architecture is not told: they are resized, or may be left out.
FREE = ('pos_embed', 'patch_embed.proj.weight', 'norm.', 'rope_embed.')
OFFICIAL = re.compile(r'dinov([23])_vit(\w+?)1[46](plus)?(_reg)?4?')


def fit_vit(cfg: 'Config', weights: str | None, options: Container[str] = ()) -> None:
    """Put the asked ViT into a config that takes any; writes to ``cfg``, leaves others alone.

    Args:
        cfg: a config with the key ``vit``, which is removed: one that is saved is complete. Where
            it names another ViT than the model has, this gets the weights of its authors.
        weights: file, address or name that the user gave; they tell the ViT, if it is not named.
        options: names of those that the user changed.

    Raises:
        UsageError: there is no such architecture, or it was asked for in the model, where the rest
            would not follow.
        CheckpointError: the weights cannot be had or read.
    """
    backbone: Any = cfg.model.get('backbone') or {}
    if 'vit' not in cfg or not str(backbone.get('type')).startswith('mmhybrid.'):
        return
    place = f'model.backbone.{"vit." if "vit" in backbone else ""}arch'
    if place in options:
        raise UsageError(f'--cfg-options {place}=...: this config takes its ViT as vit=NAME')
    name = cfg.pop('vit')
    key = 'out_indices'
    asked = {key: backbone.pop(key)} if f'model.backbone.{key}' in options else {}
    for key in [key for key in cfg if key.startswith('_backbone')]:  # the model has its own copy
        cfg.pop(key)
    if name != backbone.get('vit', backbone).arch:
        set_vit(backbone, name, {})
        if not weights:
            backbone.init_cfg = dict(type='Pretrained', checkpoint=official_weights(name))
    elif weights and (found := find_vit(weights)):
        set_vit(backbone, *found)
    backbone.update(asked)  # blocks of the ViT that is asked for
    fit_widths(cfg)


def official_weights(vit: str) -> str:
    """Return the name of the weights that the authors of DINOv2 and DINOv3 publish.

    Raises:
        UsageError: they publish none of this architecture.
    """
    from ..checkpoints import OFFICIAL_FILES

    matches = {name: OFFICIAL.fullmatch(name) for name in OFFICIAL_FILES}
    names = {f'dinov{"".join((m[1], "_", *m.groups("")[1:]))}': k for k, m in matches.items() if m}
    if vit not in names:
        raise UsageError(f'vit={vit} alone tells no weights; give them too, with --weights FILE')
    return names[vit]


def find_vit(weights: str) -> tuple[str, dict[str, Any]] | None:
    """Return the architecture that weights fill, and the options that it does not tell.

    None for weights of no plain ViT that has a name: whether they fit, the strict load says.

    Raises:
        CheckpointError: they cannot be had or read.
    """
    import torch

    from ..checkpoints import CheckpointError, describe_vit, find_weights, locate, read
    from ..checkpoints.sources import convert
    from ..models.backbones import ViT

    content = read(locate(weights))
    try:
        found = find_weights(content)
    except CheckpointError:
        found = _find_own(content)
    if found is None or found.source.family != 'vit':
        return None
    state_dict, _, _ = convert(found)
    looks = describe_vit(state_dict)
    shapes = _shapes(state_dict)
    for name in ViT.arch_settings:
        sizes: Any = ViT.resolve_arch(name)
        if looks is None or (sizes.embed_dims, sizes.depth) != (looks.width, looks.depth):
            continue
        for bias in ({}, dict(qkv_bias=False)):  # some files leave it out where it is zero
            options: dict[str, Any] = dict(bias)
            with torch.device('meta'):
                vit = ViT(name, **options)
            is_absolute = vit.pos_embed is not None
            if _shapes(vit.state_dict()) == shapes and is_absolute == ('pos_embed' in state_dict):
                if is_absolute:
                    count = state_dict['pos_embed'].shape[1] - vit.num_prefix_positions
                    options = dict(options, patch_size=PATCH, pretrain_size=isqrt(count) * PATCH)
                return name, options
    return None


def _find_own(content: Any) -> Any:
    """Find a ViT in the names that it has here; None if there is none."""
    import torch

    from ..checkpoints import CheckpointError, find_weights
    from ..models.backbones import ViT

    for name in ViT.arch_settings:
        with torch.device('meta'):
            own = frozenset(ViT(name, final_norm=True).state_dict())
        with contextlib.suppress(CheckpointError):
            return find_weights(content, own_names=[('vit', own)])
    return None


def _shapes(state_dict: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in state_dict.items() if not k.startswith(FREE)}


def set_vit(backbone: dict[str, Any], name: str, options: Mapping[str, Any]) -> None:
    """Write an architecture into the config of a plain ViT or of an adapter.

    Blocks of a plain ViT whose output comes out, counted from the first, stay at the same parts of
    its depth. An adapter whose architectures say sizes gets its own of this size, of the same task;
    where it has none, the settings of its largest.

    Args:
        backbone: changed in place; options that stand in it already stay.
        name: of the architecture.
        options: arguments of the ViT beside it; by default what gives it patches of 16 pixels.

    Raises:
        UsageError: there is no such architecture.
    """
    from ..models.backbones import ViT
    from ..registry import MODELS

    try:
        arch: Any = ViT.resolve_arch(name)
    except ValueError as error:
        raise UsageError(f'vit={name}: {error}') from error
    if arch.patch_size != PATCH and not options:
        options = dict(patch_size=PATCH, pretrain_size=arch.position_grid[0] * PATCH)
    adapter: Any = MODELS.get(backbone['type'])
    vit = backbone if adapter is ViT else backbone['vit']
    depth, blocks = ViT.resolve_arch(vit['arch']).depth, vit.get('out_indices')
    if isinstance(blocks, (list, tuple)) and all(0 <= i < depth for i in blocks):
        # 2, 5, 8, 11 of 12 blocks are 5, 11, 17, 23 of 24.
        vit['out_indices'] = [ceil((i + 1) * arch.depth / depth) - 1 for i in blocks]
    vit['arch'] = name
    for key, value in options.items():
        vit.setdefault(key, value)
    if adapter is ViT:
        return
    sizes = {key: getattr(arch, key) for key in ('embed_dims', 'depth', 'num_heads')}
    end = '_seg' if str(backbone['arch']).endswith('_seg') else ''
    own = {
        key: it
        for key, it in adapter.arch_settings.items()
        if sizes.keys() <= it.keys() and key.removesuffix('_seg') + end == key
    }
    same = [key for key, it in own.items() if sizes.items() <= it.items()]
    if own:
        largest = max(own.values(), key=lambda it: it['embed_dims'])
        heads = dict(deform_heads=arch.num_heads)  # which divide the width, as others may not
        backbone['arch'] = same[0] if same else {**largest, **sizes, **heads}


def fit_widths(cfg: 'Config') -> None:
    """Give what stands behind the backbone of a config the channels of its maps."""
    import torch

    from ..registry import MODELS

    model = cfg.model
    with torch.device('meta'):
        backbone = MODELS.build({k: v for k, v in model.backbone.items() if k != 'init_cfg'})
    channels: Sequence[int] = backbone.out_channels
    heads = [model[key] for key in ('decode_head', 'auxiliary_head') if key in model]
    readers = [model.neck] if 'neck' in model else heads
    if 'neck' in model and model.neck.type == 'mmhybrid.BatchNormNeck':  # which keeps the widths
        readers += heads
    for part in readers:
        if isinstance(part.in_channels, int):
            part.in_channels = channels[part.get('in_index', -1)]
            continue
        part.in_channels = list(channels)
        if part.get('num_convs') == 0:
            part.update(in_index=list(range(len(channels))), channels=sum(channels))
