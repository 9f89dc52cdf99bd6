"""The bases of the adapters of a plain ViT: options, constructor, freezing, output maps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..kernels import Shapes, join_levels, resize_map, split_levels
from ..layers import ConvPyramid, MSDeformAttention, build_norm
from .arch import option
from .base import Backbone
from .vit import ViT, ViTSize

# Settings that published detection models of wide ViTs, and all segmentation models, share.
WIDE = dict(deform_heads=12, deform_ratio=0.5)
SEGMENTATION = dict(windows=0, vit_features='stages')


@dataclass(frozen=True, kw_only=True)
class PyramidArch(ViTSize):
    """Settings of every :class:`PyramidAdapter`, those of its ViT first."""

    windows: int | Sequence[int] = option(
        "side of the ViT's attention windows, 0 for global attention; a sequence sets each block "
        'and is repeated',
        (14, 14, 0),
    )
    stem_channels: int = option('width of the convolutional stem', 64)
    interaction_indexes: Sequence[tuple[int, int]] | None = option(
        'first and last block of each stage, by default four equal groups', None
    )
    vit_features: Literal['last', 'stages', 'none'] = option(
        "ViT maps that are added to the outputs: ``'last'``, the last stage's at each level; "
        "``'stages'``, the i-th stage's at level i; ``'none'``",
        'last',
    )
    final_norm: bool = option("normalise these maps by the ViT's final norm", False)
    pyramid_scale: float | None = option(
        'scale that the pyramid has in the outputs at first, learned for each channel; None: none',
        None,
    )
    num_points: int = option('sampling points a level of deformable attention', 4)
    deform_heads: int = option('heads of deformable attention', 6)
    deform_ratio: float = option('value width of deformable attention over ``embed_dims``', 1.0)
    ffn_ratio: float = option(
        'hidden width of the feed-forward networks over ``embed_dims``; 0 leaves out '
        'those that can be left out',
        0.25,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        count = len(self.groups)
        if self.vit_features == 'stages' and count != 4:
            raise ValueError(
                f"vit_features='stages' gives each of the 4 levels one stage's map, but there are "
                f"{count} stages; use vit_features='last'"
            )
        if self.vit_features == 'none' and (self.final_norm or self.pyramid_scale is not None):
            raise ValueError(
                "final_norm and pyramid_scale set how the ViT's maps are added to the outputs, and "
                "vit_features='none' adds none; leave them out, or use vit_features='last'"
            )
        windows = self.windows
        if not isinstance(windows, int) and 0 < len(windows) < self.depth:
            if self.depth % len(windows):
                raise ValueError(
                    f'the {len(windows)} windows {tuple(windows)!r:.200} (a repeated pattern) '
                    f'do not divide {self.depth} blocks; set windows=0, or one for each block'
                )
            self._set(windows=tuple(windows) * (self.depth // len(windows)))

    @property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """First and last block of each stage."""
        return group_blocks(self.depth, self.interaction_indexes)

    @property
    def ffn_dims(self) -> int:
        """Hidden width of the feed-forward networks."""
        return int(self.embed_dims * self.ffn_ratio)


class Adapter(Backbone):
    """Base of the adapters: a plain ViT, wrapped and not changed, and convolutions beside it.

    A subclass says by :meth:`vit_arguments` which ViT its architecture has.

    Args:
        vit: arguments of the :class:`ViT`, in place of those that ``arch`` says.
        out_indices: levels that come out, of strides 4, 8, 16 and 32.
        norm_cfg: norms of the convolutional branch and the outputs, BN, SyncBN or GN.
        drop_path_rate: stochastic depth of the ViT's last block; it grows linearly from 0.
        with_cp: recompute ViT blocks and the parts beside them, see :class:`Backbone`.
        freeze: ``'vit'`` freezes the whole ViT.
        frozen_stages: freezes part of it: 0 the embeddings, i also the first i blocks; -1 none.
        lora: trains LoRA in the place of the ViT's weights, see :class:`ViT`.
        init_cfg: see :class:`Backbone`; takes weights of a ViT or of the whole adapter.
    """

    wrapped = {'vit': ViT}
    set_here: ClassVar[tuple[str, ...]] = ('out_indices', 'final_norm')
    """Arguments of the ViT that a caller must not give."""

    def __init__(
        self,
        arch: str | dict,
        *,
        vit: dict | None = None,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        freeze: Literal['vit'] | None = None,
        lora: dict | None = None,
        **options: Any,
    ):
        super().__init__(arch, out_indices=out_indices, **options)
        self.levels = self.resolve_indices(4)
        self.out_strides = tuple(4 * 2**level for level in self.levels)
        self.norm_cfg = dict(type='BN') if norm_cfg is None else dict(norm_cfg)

        vit, name = vit or {}, type(self).__name__
        for argument in (*self.set_here, 'lora') if lora else self.set_here:
            if vit.get(argument):
                given = f'{argument}={vit[argument]!r:.200}'
                raise ValueError(
                    f'{given} in vit=dict(...): {name} sets it; give it to {name}, if at all'
                )
        common = dict(
            in_channels=self.in_channels,
            drop_path_rate=drop_path_rate,
            with_cp=self.with_cp,
            freeze=freeze,
            frozen_stages=self.frozen_stages,
            lora=lora,
        )
        self.vit = ViT(**{**common, **self.vit_arguments(vit)})
        if self.vit.patch_size != 16:
            raise ValueError(
                f'{name} joins a ViT of patch size 16 to its stride 16, got {self.vit.patch_size}; '
                'set vit=dict(patch_size=16): patch embeddings are resized on loading'
            )

    def vit_arguments(self, given: dict) -> dict:
        """Return the arguments of the ViT: ``given`` ones in place of those of ``self.arch``."""
        raise NotImplementedError(f'{type(self).__name__} does not say which ViT it wraps')

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the depth that the ViT gives; the adapter is at the last depth."""
        return self.vit.get_layer_depth(param_name, f'{prefix}vit.')


class PyramidAdapter(Adapter):
    """Base of the adapters with a pyramid of tokens, which deformable attention reads.

    Such an adapter is one file: a record of its architecture, which extends :class:`PyramidArch`,
    the modules of its stages, and a subclass of this class that declares what :class:`Backbone`
    asks for, and has :meth:`build_stages` and ``forward``, from :meth:`embed_pyramid` to
    :meth:`output_maps`.

    Args:
        vit: arguments of the :class:`ViT`, such as ``dict(pretrain_size=592)`` for DINOv2 weights.
            By default it has no class token, and LayerScale beginning at 1.
        deform_backend: see :func:`~mmhybrid.models.kernels.deformable_attention`.
        drop_path_rate: stochastic depth of every part of the adapter; in the ViT it grows to this.

    Raises:
        ValueError: unknown arch, inconsistent settings, or an unfit image.
    """

    arch_type = PyramidArch
    stages: Any  # ModuleList of what build_stages returns: torch gives its items no type
    upsample: Any  # None where the map of stride 4 does not come out

    def __init__(
        self,
        arch: str | dict,
        *,
        deform_backend: str = 'auto',
        drop_path_rate: float = 0.0,
        **options: Any,
    ):
        super().__init__(arch, drop_path_rate=drop_path_rate, **options)
        self.groups = self.arch.groups
        self.vit_features = self.arch.vit_features

        dims = self.arch.embed_dims
        if (self.vit.embed_dims, self.vit.depth) != (dims, self.arch.depth):
            raise ValueError(
                f'the ViT has {self.vit.depth} blocks of width {self.vit.embed_dims}, but arch '
                f'says {self.arch.depth} of width {dims}; give the same size to both'
            )
        self.out_channels = (dims,) * len(self.levels)
        finest = 0 in self.levels
        self.cnn = ConvPyramid(
            self.in_channels, self.arch.stem_channels, dims, self.norm_cfg, finest
        )
        self.level_embed = nn.Parameter(torch.randn(3, dims))
        attention = dict(
            num_heads=self.arch.deform_heads,
            num_points=self.arch.num_points,
            value_ratio=self.arch.deform_ratio,
            backend=deform_backend,
        )
        self.stages = nn.ModuleList(self.build_stages(attention, self.norm_cfg, drop_path_rate))
        self.upsample = nn.ConvTranspose2d(dims, dims, 2, stride=2) if finest else None
        self.norms = nn.ModuleDict({str(i): build_norm(self.norm_cfg, dims) for i in self.levels})
        self.scales = None
        if (scale := self.arch.pyramid_scale) is not None:
            self.scales = nn.ParameterDict({str(i): scale * torch.ones(dims) for i in self.levels})
        for part in (self.cnn, self.stages, self.upsample):
            if part is not None:
                part.apply(init_layer)
        self.freeze()

    def vit_arguments(self, given: dict) -> dict:
        """Take sizes and windows from the architecture; no class token, LayerScale from 1.0."""
        arch = {it.name: getattr(self.arch, it.name) for it in fields(ViTSize)}
        own = dict(arch=arch, windows=self.arch.windows, class_token=False, layer_scale=1.0)
        return own | given | dict(final_norm=self.arch.final_norm)

    def build_stages(
        self, attention: dict, norm_cfg: dict, drop_path_rate: float
    ) -> Sequence[nn.Module]:
        """Build one module for each of ``self.groups`` of the ViT's blocks, by ``self.arch``.

        Args:
            attention: arguments of deformable attention, ``num_levels`` aside.
            norm_cfg: norms of the convolutional branch.
            drop_path_rate: of every part.
        """
        raise NotImplementedError(f'{type(self).__name__} does not build stages')

    def embed_pyramid(self, image: Tensor) -> tuple[Tensor, Tensor, Shapes]:
        """Embed an image in the pyramid.

        Args:
            image: ``(N, in_channels, H, W)``, sides multiples of 32.

        Returns:
            The stem's map ``(N, stem_channels, H / 4, W / 4)``, tokens ``(N, S, C)`` of strides 8,
            16 and 32, and ``(h, w)`` of those three levels.
        """
        stem, *maps = self.run(self.cnn, image)
        shapes = [tuple(m.shape[2:]) for m in maps]
        level_embed = self.level_embed[:, :, None, None]
        tokens = join_levels([m + e for m, e in zip(maps, level_embed, strict=True)])
        return stem, tokens, shapes

    def output_maps(
        self,
        stem: Tensor,
        pyramid: Tensor,
        shapes: Shapes,
        features: Sequence[Tensor],
        grid: tuple[int, int],
        size: Sequence[int],
    ) -> tuple[Tensor, ...]:
        """Make the output maps: those of the pyramid, with the ViT's as ``vit_features`` says.

        Args:
            stem: the stem's map, of stride 4.
            pyramid: tokens ``(N, S, C)`` of strides 8, 16 and 32.
            shapes: ``(h, w)`` of those three levels.
            features: patch tokens ``(N, h * w, C)`` of the ViT after each stage.
            grid: their ``(h, w)``.
            size: of the image before it was padded.
        """
        maps = split_levels(pyramid, shapes)
        if self.vit_features == 'last':
            features = features[-1:]
        if self.arch.final_norm:
            features = [self.vit.norm(feature) for feature in features]
        outs = []
        for level, stride in zip(self.levels, self.out_strides, strict=True):
            out = maps[level - 1] if level else self.upsample(maps[0])
            if not level:
                out = out + self.cnn.projections[0](stem)
            if self.scales is not None:
                out = out * self.scales[str(level)][:, None, None]
            if self.vit_features != 'none':
                feature = features[level if self.vit_features == 'stages' else 0]
                (feature,) = split_levels(feature, [grid])
                out = out + resize_map(feature, tuple(out.shape[2:]))
            outs.append(self.crop_map(self.norms[str(level)](out), size, stride))
        return tuple(outs)


def group_blocks(
    depth: int, interaction_indexes: Sequence[Sequence[int]] | None
) -> tuple[tuple[int, int], ...]:
    """Return the first and last block of each stage: as given, or four equal groups."""
    groups = interaction_indexes
    if groups is None:
        if depth % 4:
            raise ValueError(
                f'{depth} blocks do not make four equal stages; give interaction_indexes'
            )
        step = depth // 4
        groups = [(first, first + step - 1) for first in range(0, depth, step)]
    if not all(groups):
        raise ValueError(f'interaction_indexes={list(groups)!r:.200} have an empty stage')
    groups = tuple((group[0], group[-1]) for group in groups)
    covered = [block for first, last in groups for block in range(first, last + 1)]
    if covered != list(range(depth)):
        raise ValueError(
            f'interaction_indexes={list(groups)!r:.200} do not cover the {depth} blocks of the '
            f'ViT one after another; expected first and last blocks such as '
            f'[(0, {depth // 2 - 1}), ({depth // 2}, {depth - 1})]'
        )
    return groups


def init_layer(module: nn.Module) -> None:
    """Initialise one layer of an adapter as ViT-Adapter does; for ``Module.apply``."""
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
