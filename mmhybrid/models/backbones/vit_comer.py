"""ViT-CoMer: a plain ViT joined to a convolutional pyramid."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Literal

import torch
from torch import Tensor, nn

from mmhybrid.registry import MODELS

from ..kernels import Shapes, join_levels, reference_points, resize_map, split_levels
from ..layers import (
    ConvFFN,
    ConvPyramid,
    DropPath,
    MSDeformAttention,
    build_norm,
    fold_into_previous,
)
from .adapter import group_blocks, init_layer, merge_maps, wrap_vit
from .base import REQUIRED, Backbone
from .vit import SIZES


class MRFP(nn.Module):
    """Multi-receptive-field feature pyramid: ``(N, S, C)`` tokens of three levels, in and out.

    In each level half of the hidden channels pass a 3x3, half a 5x5 depth-wise convolution.
    """

    def __init__(self, embed_dims: int, hidden_dims: int, num_levels: int, norm_cfg: dict):
        super().__init__()
        half = hidden_dims // 2
        self.fc1 = nn.Linear(embed_dims, hidden_dims)
        self.conv3x3 = nn.ModuleList(
            nn.Conv2d(half, half, 3, padding=1, groups=half) for _ in range(num_levels)
        )
        self.conv5x5 = nn.ModuleList(
            nn.Conv2d(half, half, 5, padding=2, groups=half) for _ in range(num_levels)
        )
        self.norms = nn.ModuleList(build_norm(norm_cfg, hidden_dims) for _ in range(num_levels))
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dims, embed_dims)

    def forward(self, tokens: Tensor, shapes: Shapes) -> Tensor:
        maps = []
        for level, m in enumerate(split_levels(self.fc1(tokens), shapes)):
            small, large = m.chunk(2, dim=1)
            small, large = self.conv3x3[level](small), self.conv5x5[level](large)
            maps.append(self.act(self.norms[level](torch.cat((small, large), dim=1))))
        # The original applies GELU to each map and once more after joining them.
        return self.fc2(self.act(join_levels(maps)))

    def fuse_norms(self) -> None:
        """See :meth:`Backbone.fuse`."""
        for level, norm in enumerate(self.norms):
            convs = (self.conv3x3[level], self.conv5x5[level])
            self.norms[level] = fold_into_previous(norm, *convs)


class CTIToViT(nn.Module):
    """CTI from the CNN to the ViT: makes of the pyramid what the patch tokens get added.

    The pyramid attends to itself over all levels (the attention has no residual connection), passes
    a feed-forward network, and its levels are resized to the ViT's grid and summed. The learned
    scale of the sum begins at zero, so that a pretrained ViT begins undisturbed.
    """

    def __init__(
        self, embed_dims: int, ffn_dims: int, attention: dict, norm_cfg: dict, drop_path_rate: float
    ):
        super().__init__()
        self.query_norm = build_norm(norm_cfg, embed_dims)
        self.value_norm = build_norm(norm_cfg, embed_dims)
        self.attn = MSDeformAttention(embed_dims, **attention)
        self.ffn_norm = build_norm(norm_cfg, embed_dims)
        self.ffn = ConvFFN(embed_dims, ffn_dims)
        self.drop_path = DropPath(drop_path_rate)
        self.gamma = nn.Parameter(torch.zeros(embed_dims))

    def forward(self, pyramid: Tensor, points: Tensor, shapes: Shapes) -> Tensor:
        """``(N, S, C)`` pyramid to ``(N, h * w, C)``, to be added to the patch tokens."""
        x = self.attn(self.query_norm(pyramid), points, self.value_norm(pyramid), shapes)
        x = x + self.drop_path(self.ffn(self.ffn_norm(x), shapes))
        return self.gamma * sum_levels(x, shapes)


class PyramidAttention(nn.Module):
    """CNN-branch interaction: deformable attention of the pyramid to itself, and its network.

    As in the original, query and value are normalised twice, and the residual connection starts
    from the once normalised query, not from the input.
    """

    def __init__(
        self, embed_dims: int, ffn_dims: int, attention: dict, norm_cfg: dict, drop_path_rate: float
    ):
        super().__init__()
        self.outer_query_norm = build_norm(norm_cfg, embed_dims)
        self.outer_value_norm = build_norm(norm_cfg, embed_dims)
        self.query_norm = build_norm(norm_cfg, embed_dims)
        self.value_norm = build_norm(norm_cfg, embed_dims)
        self.attn = MSDeformAttention(embed_dims, **attention)
        self.ffn_norm = build_norm(norm_cfg, embed_dims) if ffn_dims else None
        self.ffn = ConvFFN(embed_dims, ffn_dims) if ffn_dims else None
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, pyramid: Tensor, points: Tensor, shapes: Shapes) -> Tensor:
        query, value = self.outer_query_norm(pyramid), self.outer_value_norm(pyramid)
        x = self.attn(self.query_norm(query), points, self.value_norm(value), shapes)
        x = query + x
        if self.ffn is not None:
            x = x + self.drop_path(self.ffn(self.ffn_norm(x), shapes))
        return x


class CTIToCNN(nn.Module):
    """CTI from the ViT to the CNN: patch tokens are added to the pyramid's middle level.

    Args:
        ffn_dims: hidden width of the feed-forward networks, 0 for none.
        own_ffn: a feed-forward network of its own after the addition (the extra CTI blocks).
        interaction: whether the pyramid then attends to itself.
    """

    def __init__(
        self,
        embed_dims: int,
        ffn_dims: int,
        attention: dict,
        norm_cfg: dict,
        drop_path_rate: float,
        *,
        own_ffn: bool,
        interaction: bool,
    ):
        super().__init__()
        own_ffn = own_ffn and ffn_dims > 0
        self.ffn_norm = build_norm(norm_cfg, embed_dims) if own_ffn else None
        self.ffn = ConvFFN(embed_dims, ffn_dims) if own_ffn else None
        self.drop_path = DropPath(drop_path_rate)
        self.interaction = None
        if interaction:
            self.interaction = PyramidAttention(
                embed_dims, ffn_dims, attention, norm_cfg, drop_path_rate
            )

    def forward(self, pyramid: Tensor, patches: Tensor, points: Tensor, shapes: Shapes) -> Tensor:
        pyramid = add_patches(pyramid, patches, shapes)
        if self.ffn is not None:
            pyramid = pyramid + self.drop_path(self.ffn(self.ffn_norm(pyramid), shapes))
        if self.interaction is not None:
            pyramid = self.interaction(pyramid, points, shapes)
        return pyramid


class Stage(nn.Module):
    """The parts of ViT-CoMer around one group of ViT blocks; those switched off are None."""

    def __init__(
        self, mrfp: MRFP | None, to_vit: CTIToViT | None, to_cnn: CTIToCNN | None, extra: list
    ):
        super().__init__()
        self.mrfp = mrfp
        self.to_vit = to_vit
        self.to_cnn = to_cnn
        self.extra = nn.ModuleList(extra)


WIDE = dict(deform_heads=12, deform_ratio=0.5)
SEGMENTATION = dict(windows=0, vit_features='stages')


@MODELS.register_module()
class ViTCoMer(Backbone):
    """ViT-CoMer: a plain ViT and a convolutional pyramid that inform each other.

    ViT-CoMer: Vision Transformer with Convolutional Multi-scale Feature Interaction for Dense
    Predictions, arXiv 2403.07392, ``Traffic-X/ViT-CoMer``. Both published trees, detection and
    segmentation, are options of this class. Differences from them: batch norm where they write
    SyncBN (``norm_cfg`` sets it), parameters they never use are left out, and images whose sides
    32 does not divide are padded and the maps cropped.

    The ViT is wrapped, not changed. In each stage MRFP (multi-receptive-field feature pyramid) and
    CTI (bidirectional CNN-Transformer interaction) to the ViT run before a group of its blocks, CTI
    to the CNN after it; extra CTI blocks follow the last.

    Args:
        arch: ``'t' 's' 'b' 'l'``, the published detection models, ``'t_seg' 's_seg' 'b_seg'``, the
            segmentation ones, or ``dict(embed_dims, depth, num_heads, mlp_ratio=4)``, to which any
            of the arguments marked * can be added.
        vit: arguments of the :class:`ViT`, such as ``dict(pretrain_size=592)`` for DINOv2 weights.
            By default it has no class token, and LayerScale beginning at 1.
        windows: * side of the ViT's attention windows, 0 for global attention; a sequence sets each
            block. Default 14, 14, global, repeated.
        in_channels: channels of the image.
        out_indices: levels that come out, of strides 4, 8, 16 and 32.
        stem_channels: * width of the convolutional stem, default 64.
        interaction_indexes: * first and last block of each stage, default four equal groups.
        mrfp_ratio: * hidden width of MRFP over ``embed_dims``, default 0.5.
        cti_to_vit, cti_to_cnn: * whether there is CTI to the ViT (and MRFP, which feeds it) and to
            the CNN; a sequence sets each stage. Default True.
        cnn_interaction: * whether the pyramid attends to itself in CTI to the CNN and in the extra
            blocks; a sequence sets each stage. Default True.
        extra_cti: * extra CTI blocks after the last stage, default 4.
        vit_features: * which ViT maps are added to the outputs: ``'last'`` (default), the last
            stage's at each level; ``'stages'``, the i-th stage's at level i; ``'none'``.
        num_points, deform_heads, deform_ratio: * sampling points a level, heads (default 6) and
            value width over ``embed_dims`` of deformable attention.
        deform_backend: see :func:`~mmhybrid.models.layers.deformable_attention`.
        ffn_ratio: * hidden width of the CTI's feed-forward networks over ``embed_dims``, default
            0.25.
        cnn_ffn: * whether CTI to the CNN and the extra blocks have such networks, default True; CTI
            to the ViT always has.
        norm_cfg: norms of the convolutional branch and the outputs, BN, SyncBN or GN.
        drop_path_rate: stochastic depth: of the ViT growing to this, of every CTI just this.
        with_cp: recompute ViT blocks, MRFP and CTI in the backward pass to save memory.
        freeze: ``'vit'`` freezes the whole ViT.
        frozen_stages: freezes part of it: 0 the embeddings, i also the first i blocks; -1 none.
        norm_eval: keep batch norms in evaluation mode while training.
        init_cfg: see :class:`Backbone`; takes weights of a ViT or of a whole ViT-CoMer.

    Shapes:
        ``(N, in_channels, H, W)`` to ``(N, embed_dims, ceil(H / s), ceil(W / s))``, s = 4, 8, 16
        and 32.

    Raises:
        ValueError: unknown arch, inconsistent settings, or an unfit image.
    """

    family = 'vitcomer'
    arch_settings = {
        't': SIZES['t'],
        's': SIZES['s'],
        'b': SIZES['b'] | WIDE,
        'l': SIZES['l'] | WIDE | dict(deform_heads=16),
        't_seg': SIZES['t'] | SEGMENTATION | dict(mrfp_ratio=6.0),
        's_seg': SIZES['s'] | SEGMENTATION | dict(mrfp_ratio=1.5),
        'b_seg': SIZES['b'] | WIDE | SEGMENTATION | dict(mrfp_ratio=1.0),
    }
    arch_defaults = dict(
        embed_dims=REQUIRED,
        depth=REQUIRED,
        num_heads=REQUIRED,
        mlp_ratio=4,
        windows=(14, 14, 0),
        stem_channels=64,
        interaction_indexes=None,
        mrfp_ratio=0.5,
        cti_to_vit=True,
        cti_to_cnn=True,
        cnn_interaction=True,
        extra_cti=4,
        vit_features='last',
        num_points=4,
        deform_heads=6,
        deform_ratio=1.0,
        ffn_ratio=0.25,
        cnn_ffn=True,
    )
    pretrained_parts = {'vit': 'vit.', 'vit_comer': ''}

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
        mrfp_ratio: float | None = None,
        cti_to_vit: bool | Sequence[bool] | None = None,
        cti_to_cnn: bool | Sequence[bool] | None = None,
        cnn_interaction: bool | Sequence[bool] | None = None,
        extra_cti: int | None = None,
        vit_features: Literal['last', 'stages', 'none'] | None = None,
        num_points: int | None = None,
        deform_heads: int | None = None,
        deform_ratio: float | None = None,
        deform_backend: str = 'auto',
        ffn_ratio: float | None = None,
        cnn_ffn: bool | None = None,
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
            mrfp_ratio=mrfp_ratio,
            cti_to_vit=cti_to_vit,
            cti_to_cnn=cti_to_cnn,
            cnn_interaction=cnn_interaction,
            extra_cti=extra_cti,
            vit_features=vit_features,
            num_points=num_points,
            deform_heads=deform_heads,
            deform_ratio=deform_ratio,
            ffn_ratio=ffn_ratio,
            cnn_ffn=cnn_ffn,
        )
        if freeze not in (None, 'vit'):
            raise ValueError(f"freeze={freeze!r}: expected None or 'vit'")
        self.frozen_part = freeze
        self.vit = wrap_vit(self, arch, vit or {}, drop_path_rate)
        self.groups = group_blocks(arch.depth, arch.interaction_indexes)
        self.vit_features = arch.vit_features

        dims = arch.embed_dims
        self.levels = self.resolve_indices(4)
        self.out_channels = (dims,) * len(self.levels)
        self.out_strides = tuple(4 * 2**level for level in self.levels)

        norm_cfg = dict(type='BN') if norm_cfg is None else dict(norm_cfg)
        self.cnn = ConvPyramid(in_channels, arch.stem_channels, dims, norm_cfg, 0 in self.levels)
        self.level_embed = nn.Parameter(torch.randn(3, dims))
        self.stages = self._build_stages(arch, norm_cfg, deform_backend, drop_path_rate)
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
        points = reference_points(shapes, image.device)
        level_embed = self.level_embed[:, :, None, None]
        pyramid = join_levels([m + e for m, e in zip(maps, level_embed, strict=True)])

        tokens, grid = self.vit.embed(image)
        count = self.vit.num_prefix_tokens
        features = []
        for stage, (first, last) in zip(self.stages, self.groups, strict=True):
            if stage.to_vit is not None:
                prefix, patches = tokens.tensor_split((count,), dim=1)
                pyramid = self.run(stage.mrfp, pyramid, shapes)
                pyramid = add_patches(pyramid, patches, shapes)
                patches = patches + self.run(stage.to_vit, pyramid, points, shapes)
                tokens = torch.cat((prefix, patches), dim=1) if count else patches
            tokens = self.vit.run_blocks(tokens, grid, first, last + 1)
            patches = tokens[:, count:]
            features.append(patches)
            for module in (stage.to_cnn, *stage.extra):
                if module is not None:
                    pyramid = self.run(module, pyramid, patches, points, shapes)

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

    def _build_stages(
        self, arch: SimpleNamespace, norm_cfg: dict, backend: str, drop_path_rate: float
    ) -> nn.ModuleList:
        dims = arch.embed_dims
        count = len(self.groups)
        to_vit = _per_stage('cti_to_vit', arch.cti_to_vit, count)
        to_cnn = _per_stage('cti_to_cnn', arch.cti_to_cnn, count)
        interaction = _per_stage('cnn_interaction', arch.cnn_interaction, count)
        mrfp_dims = int(dims * arch.mrfp_ratio)
        ffn_dims = int(dims * arch.ffn_ratio)
        self._check_stages(arch, to_cnn[-1], mrfp_dims, ffn_dims)

        common = dict(
            embed_dims=dims,
            attention=dict(
                num_heads=arch.deform_heads,
                num_levels=3,
                num_points=arch.num_points,
                value_ratio=arch.deform_ratio,
                backend=backend,
            ),
            norm_cfg=dict(type='LN', eps=1e-6),
            drop_path_rate=drop_path_rate,
        )
        cnn_ffn_dims = ffn_dims if arch.cnn_ffn else 0

        def to_cnn_block(i: int, own_ffn: bool) -> CTIToCNN:
            return CTIToCNN(
                ffn_dims=cnn_ffn_dims, own_ffn=own_ffn, interaction=interaction[i], **common
            )

        stages = nn.ModuleList()
        for i in range(count):
            extra = arch.extra_cti if i == count - 1 else 0
            stages.append(
                Stage(
                    mrfp=MRFP(dims, mrfp_dims, 3, norm_cfg) if to_vit[i] else None,
                    to_vit=CTIToViT(ffn_dims=ffn_dims, **common) if to_vit[i] else None,
                    to_cnn=to_cnn_block(i, own_ffn=False) if to_cnn[i] else None,
                    extra=[to_cnn_block(i, own_ffn=True) for _ in range(extra)],
                )
            )
        return stages

    def _check_stages(
        self, arch: SimpleNamespace, last_to_cnn: bool, mrfp_dims: int, ffn_dims: int
    ) -> None:
        if ffn_dims < 1:
            raise ValueError(
                f'ffn_ratio={arch.ffn_ratio} leaves the feed-forward networks of CTI no channel; '
                'to do without those on the side of the CNN set cnn_ffn=False'
            )
        if mrfp_dims < 2 or mrfp_dims % 2:
            raise ValueError(
                f'mrfp_ratio={arch.mrfp_ratio} gives MRFP {mrfp_dims} hidden channels; it needs an '
                'even number, half for each kernel size'
            )
        if arch.vit_features not in ('last', 'stages', 'none'):
            raise ValueError(
                f"vit_features={arch.vit_features!r}: expected 'last', 'stages' or 'none'"
            )
        if arch.vit_features == 'stages' and len(self.groups) != 4:
            raise ValueError(
                f"vit_features='stages' gives each of the 4 levels one stage's map, but there are "
                f"{len(self.groups)} stages; use vit_features='last'"
            )
        if arch.vit_features == 'none' and not last_to_cnn and not arch.extra_cti:
            raise ValueError(
                'the last blocks of the ViT would not reach any output; switch on the last '
                'cti_to_cnn, extra_cti or vit_features'
            )


def sum_levels(pyramid: Tensor, shapes: Shapes) -> Tensor:
    """Resize the levels of ``(N, S, C)`` to the middle one and add them up: ``(N, h * w, C)``."""
    fine, middle, coarse = split_levels(pyramid, shapes)
    return join_levels([resize_map(fine, shapes[1]) + middle + resize_map(coarse, shapes[1])])


def add_patches(pyramid: Tensor, patches: Tensor, shapes: Shapes) -> Tensor:
    """Add patch tokens ``(N, h * w, C)`` to the middle level of the pyramid ``(N, S, C)``."""
    fine, middle, coarse = pyramid.split([h * w for h, w in shapes], dim=1)
    return torch.cat((fine, middle + patches, coarse), dim=1)


def _per_stage(name: str, value: bool | Sequence[bool], count: int) -> tuple[bool, ...]:
    if isinstance(value, bool):
        return (value,) * count
    if len(value) != count:
        raise ValueError(f'{name} has {len(value)} entries for {count} stages: {list(value)}')
    return tuple(value)
