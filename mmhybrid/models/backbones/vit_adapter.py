"""ViT-Adapter: a plain ViT with a convolutional spatial prior beside it."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Literal

import torch
from torch import Tensor, nn

from mmhybrid.registry import MODELS

from ..kernels import Shapes, join_levels, reference_points, split_levels
from ..layers import ConvFFN, ConvPyramid, DropPath, MSDeformAttention, build_norm
from .adapter import group_blocks, init_layer, merge_maps, wrap_vit
from .base import REQUIRED, Backbone
from .vit import SIZES

LAYER_NORM = dict(type='LN', eps=1e-6)


class Injector(nn.Module):
    """The patch tokens attend to the pyramid.

    The learned scale begins at zero, so that a pretrained ViT begins undisturbed.
    """

    def __init__(self, embed_dims: int, attention: dict):
        super().__init__()
        self.query_norm = build_norm(LAYER_NORM, embed_dims)
        self.value_norm = build_norm(LAYER_NORM, embed_dims)
        self.attn = MSDeformAttention(embed_dims, num_levels=3, **attention)
        self.gamma = nn.Parameter(torch.zeros(embed_dims))

    def forward(self, patches: Tensor, points: Tensor, pyramid: Tensor, shapes: Shapes) -> Tensor:
        """``(N, h * w, C)``, to be added to the patch tokens, of a pyramid ``(N, S, C)``."""
        x = self.attn(self.query_norm(patches), points, self.value_norm(pyramid), shapes)
        return self.gamma * x


class Extractor(nn.Module):
    """The pyramid attends to the patch tokens, and passes a feed-forward network.

    Args:
        ffn_dims: hidden width of that network, 0 for none.
    """

    def __init__(self, embed_dims: int, ffn_dims: int, attention: dict, drop_path_rate: float):
        super().__init__()
        self.query_norm = build_norm(LAYER_NORM, embed_dims)
        self.value_norm = build_norm(LAYER_NORM, embed_dims)
        self.attn = MSDeformAttention(embed_dims, num_levels=1, **attention)
        self.ffn_norm = build_norm(LAYER_NORM, embed_dims) if ffn_dims else None
        self.ffn = ConvFFN(embed_dims, ffn_dims) if ffn_dims else None
        self.drop_path = DropPath(drop_path_rate)

    def forward(
        self,
        pyramid: Tensor,
        points: Tensor,
        patches: Tensor,
        grid: tuple[int, int],
        shapes: Shapes,
    ) -> Tensor:
        """Pyramid ``(N, S, C)`` of the given shapes, in and out; patches ``(N, h * w, C)``."""
        x = self.attn(self.query_norm(pyramid), points, self.value_norm(patches), [grid])
        x = pyramid + x
        if self.ffn is not None:
            x = x + self.drop_path(self.ffn(self.ffn_norm(x), shapes))
        return x


class Stage(nn.Module):
    """The parts of ViT-Adapter around one group of ViT blocks."""

    def __init__(self, injector: Injector, extractor: Extractor, extra: list[Extractor]):
        super().__init__()
        self.injector = injector
        self.extractor = extractor
        self.extra = nn.ModuleList(extra)


WIDE = dict(deform_heads=12, deform_ratio=0.5)
LARGE = SIZES['l'] | WIDE | dict(deform_heads=16, windows=(14, 14, 14, 14, 14, 0))
SEGMENTATION = dict(windows=0, vit_features='stages')


@MODELS.register_module()
class ViTAdapter(Backbone):
    """ViT-Adapter: a plain ViT, and a pyramid that tells it of edges and reads its features.

    Vision Transformer Adapter for Dense Predictions, arXiv 2205.08534, ``czczup/ViT-Adapter``. Both
    published trees, detection and segmentation, are options of this class. Differences from them:
    batch norm where they write SyncBN (``norm_cfg`` sets it), and images whose sides 32 does not
    divide are padded and the maps cropped.

    The ViT is wrapped, not changed. A convolutional spatial prior makes the pyramid; in each stage
    an injector runs before a group of the ViT's blocks and an extractor after it; extra extractors
    follow the last.

    Args:
        arch: ``'t' 's' 'b' 'l'``, the published detection models, ``'t_seg' 's_seg' 'b_seg'
            'l_seg'``, the segmentation ones, or ``dict(embed_dims, depth, num_heads,
            mlp_ratio=4)``, to which any of the arguments marked * can be added.
        vit: arguments of the :class:`ViT`, such as ``dict(pretrain_size=592)`` for DINOv2 weights.
            By default it has no class token, and LayerScale beginning at 1.
        windows: * side of the ViT's attention windows, 0 for global attention; a sequence sets each
            block and is repeated. Default 14, 14, global.
        in_channels: channels of the image.
        out_indices: levels that come out, of strides 4, 8, 16 and 32.
        stem_channels: * width of the convolutional stem, default 64.
        interaction_indexes: * first and last block of each stage, default four equal groups.
        extra_extractors: * extractors after the last stage's own, default 2.
        vit_features: * which ViT maps are added to the outputs: ``'last'`` (default), the last
            stage's at each level; ``'stages'``, the i-th stage's at level i; ``'none'``.
        num_points, deform_heads, deform_ratio: * sampling points a level, heads (default 6) and
            value width over ``embed_dims`` of deformable attention.
        deform_backend: see :func:`~mmhybrid.models.layers.deformable_attention`.
        ffn_ratio: * hidden width of the extractors' feed-forward networks over ``embed_dims``, 0
            for none; default 0.25.
        norm_cfg: norms of the spatial prior and the outputs, BN, SyncBN or GN.
        drop_path_rate: stochastic depth: of the ViT growing to this, of every extractor just this.
        with_cp: recompute ViT blocks, injectors and extractors in the backward pass to save memory.
        freeze: ``'vit'`` freezes the whole ViT.
        frozen_stages: freezes part of it: 0 the embeddings, i also the first i blocks; -1 none.
        norm_eval: keep batch norms in evaluation mode while training.
        init_cfg: see :class:`Backbone`; takes weights of a ViT or of a whole ViT-Adapter.

    Shapes:
        ``(N, in_channels, H, W)`` to ``(N, embed_dims, ceil(H / s), ceil(W / s))``, s = 4, 8, 16
        and 32.

    Raises:
        ValueError: unknown arch, inconsistent settings, or an unfit image.
    """

    family = 'vitadapter'
    arch_settings = {
        't': SIZES['t'],
        's': SIZES['s'],
        'b': SIZES['b'] | WIDE,
        'l': LARGE,
        't_seg': SIZES['t'] | SEGMENTATION,
        's_seg': SIZES['s'] | SEGMENTATION,
        'b_seg': SIZES['b'] | WIDE | SEGMENTATION,
        'l_seg': LARGE | SEGMENTATION,
    }
    arch_defaults = dict(
        embed_dims=REQUIRED,
        depth=REQUIRED,
        num_heads=REQUIRED,
        mlp_ratio=4,
        windows=(14, 14, 0),
        stem_channels=64,
        interaction_indexes=None,
        extra_extractors=2,
        vit_features='last',
        num_points=4,
        deform_heads=6,
        deform_ratio=1.0,
        ffn_ratio=0.25,
    )
    pretrained_parts = {'vit': 'vit.', 'vit_adapter': ''}

    def __init__(
        self,
        arch: str | dict = 'b',
        *,
        vit: dict | None = None,
        windows: int | Sequence[int] | None = None,
        in_channels: int = 3,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        stem_channels: int | None = None,
        interaction_indexes: Sequence[tuple[int, int]] | None = None,
        extra_extractors: int | None = None,
        vit_features: Literal['last', 'stages', 'none'] | None = None,
        num_points: int | None = None,
        deform_heads: int | None = None,
        deform_ratio: float | None = None,
        deform_backend: str = 'auto',
        ffn_ratio: float | None = None,
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        freeze: Literal['vit'] | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(
            in_channels=in_channels,
            out_indices=out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        arch = self.resolve_arch(
            arch,
            windows=windows,
            stem_channels=stem_channels,
            interaction_indexes=interaction_indexes,
            extra_extractors=extra_extractors,
            vit_features=vit_features,
            num_points=num_points,
            deform_heads=deform_heads,
            deform_ratio=deform_ratio,
            ffn_ratio=ffn_ratio,
        )
        if freeze not in (None, 'vit'):
            raise ValueError(f"freeze={freeze!r}: expected None or 'vit'")
        self.frozen_part = freeze
        self.vit = wrap_vit(self, arch, vit or {}, drop_path_rate)
        self.groups = group_blocks(arch.depth, arch.interaction_indexes)
        self.vit_features = self._vit_features(arch)

        dims = arch.embed_dims
        self.levels = self.resolve_indices(4)
        self.out_channels = (dims,) * len(self.levels)
        self.out_strides = tuple(4 * 2**level for level in self.levels)

        norm_cfg = dict(type='BN') if norm_cfg is None else dict(norm_cfg)
        self.cnn = ConvPyramid(in_channels, arch.stem_channels, dims, norm_cfg, 0 in self.levels)
        self.level_embed = nn.Parameter(torch.randn(3, dims))
        self.stages = self._build_stages(arch, deform_backend, drop_path_rate)
        self.upsample = nn.ConvTranspose2d(dims, dims, 2, stride=2) if 0 in self.levels else None
        self.norms = nn.ModuleDict({str(i): build_norm(norm_cfg, dims) for i in self.levels})
        for part in (self.cnn, self.stages, self.upsample):
            if part is not None:
                part.apply(init_layer)
        self.freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.check_image(x)
        size = tuple(x.shape[2:])
        image = self.pad_image(x, 32)

        finest, *maps = self.cnn(image)
        shapes = [tuple(m.shape[2:]) for m in maps]
        level_embed = self.level_embed[:, :, None, None]
        pyramid = join_levels([m + e for m, e in zip(maps, level_embed, strict=True)])

        tokens, grid = self.vit.embed(image)
        count = self.vit.num_prefix_tokens
        patch_points = reference_points([grid], image.device)
        pyramid_points = reference_points(shapes, image.device)
        features = []
        for stage, (first, last) in zip(self.stages, self.groups, strict=True):
            prefix, patches = tokens.tensor_split((count,), dim=1)
            patches = patches + self.run(stage.injector, patches, patch_points, pyramid, shapes)
            tokens = torch.cat((prefix, patches), dim=1) if count else patches
            tokens = self.vit.run_blocks(tokens, grid, first, last + 1)
            patches = tokens[:, count:]
            features.append(patches)
            for extractor in (stage.extractor, *stage.extra):
                pyramid = self.run(extractor, pyramid, pyramid_points, patches, grid, shapes)

        if self.vit_features == 'last':
            features = features[-1:] * 4
        elif self.vit_features == 'none':
            features = [None] * 4
        return merge_maps(self, [finest, *split_levels(pyramid, shapes)], features, grid, size)

    # Training

    def frozen_modules(self) -> list[nn.Module | nn.Parameter]:
        return [self.vit] if self.frozen_part == 'vit' else []

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Those of the ViT; the adapter is at the last depth."""
        return self.vit.get_layer_depth(param_name, f'{prefix}vit.')

    # Building

    def _vit_features(self, arch: SimpleNamespace) -> str:
        if arch.vit_features not in ('last', 'stages', 'none'):
            raise ValueError(
                f"vit_features={arch.vit_features!r}: expected 'last', 'stages' or 'none'"
            )
        if arch.vit_features == 'stages' and len(self.groups) != 4:
            raise ValueError(
                f"vit_features='stages' gives each of the 4 levels one stage's map, but there are "
                f"{len(self.groups)} stages; use vit_features='last'"
            )
        return arch.vit_features

    def _build_stages(
        self, arch: SimpleNamespace, backend: str, drop_path_rate: float
    ) -> nn.ModuleList:
        dims, ffn_dims = arch.embed_dims, int(arch.embed_dims * arch.ffn_ratio)
        if arch.ffn_ratio and ffn_dims < 1:
            raise ValueError(
                f'ffn_ratio={arch.ffn_ratio} leaves the feed-forward networks no channel; to do '
                'without them set ffn_ratio=0'
            )
        attention = dict(
            num_heads=arch.deform_heads,
            num_points=arch.num_points,
            value_ratio=arch.deform_ratio,
            backend=backend,
        )
        stages = nn.ModuleList()
        for i in range(len(self.groups)):
            extra = arch.extra_extractors if i == len(self.groups) - 1 else 0
            extractors = [
                Extractor(dims, ffn_dims, attention, drop_path_rate) for _ in range(1 + extra)
            ]
            stages.append(Stage(Injector(dims, attention), extractors[0], extractors[1:]))
        return stages
