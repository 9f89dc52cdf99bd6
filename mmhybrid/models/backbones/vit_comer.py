"""ViT-CoMer: a plain ViT joined to a convolutional pyramid."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmhybrid.registry import MODELS

from ..kernels import Shapes, join_levels, reference_points, resize_map, split_levels
from ..layers import ConvFFN, DropPath, Linear, MSDeformAttention, build_norm, fold_into_previous
from .adapter import SEGMENTATION, WIDE, PyramidAdapter, PyramidArch
from .arch import option, per_stage
from .vit import SIZES


class MRFP(nn.Module):
    """Multi-receptive-field feature pyramid: ``(N, S, C)`` tokens of three levels, in and out.

    In each level half of the hidden channels pass a 3x3, half a 5x5 depth-wise convolution.
    """

    def __init__(self, embed_dims: int, hidden_dims: int, num_levels: int, norm_cfg: dict):
        super().__init__()
        half = hidden_dims // 2
        self.fc1 = Linear(embed_dims, hidden_dims)
        self.conv3x3 = nn.ModuleList(
            nn.Conv2d(half, half, 3, padding=1, groups=half) for _ in range(num_levels)
        )
        self.conv5x5 = nn.ModuleList(
            nn.Conv2d(half, half, 5, padding=2, groups=half) for _ in range(num_levels)
        )
        self.norms = nn.ModuleList(build_norm(norm_cfg, hidden_dims) for _ in range(num_levels))
        self.act = nn.GELU()
        self.fc2 = Linear(hidden_dims, embed_dims)

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
            convs: Any = (self.conv3x3[level], self.conv5x5[level])
            self.norms[level] = fold_into_previous(norm, *convs)


class CTIToViT(nn.Module):
    """CTI from the CNN to the ViT: the pyramid's addition to the patch tokens.

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
        """Return what to add to the patch tokens ``(N, h * w, C)``, of a pyramid ``(N, S, C)``."""
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
        self.has_ffn = ffn_dims > 0
        if self.has_ffn:
            self.ffn_norm = build_norm(norm_cfg, embed_dims)
            self.ffn = ConvFFN(embed_dims, ffn_dims)
            self.drop_path = DropPath(drop_path_rate)

    def forward(self, pyramid: Tensor, points: Tensor, shapes: Shapes) -> Tensor:
        query, value = self.outer_query_norm(pyramid), self.outer_value_norm(pyramid)
        x = self.attn(self.query_norm(query), points, self.value_norm(value), shapes)
        x = query + x
        if self.has_ffn:
            x = x + self.drop_path(self.ffn(self.ffn_norm(x), shapes))
        return x


class CTIToCNN(nn.Module):
    """CTI from the ViT to the CNN: patch tokens are added to the pyramid's middle level.

    Args:
        ffn_dims: hidden width of the feed-forward networks, 0 for none.
        own_ffn: a feed-forward network of its own after the addition (the extra CTI blocks).
        interaction: let the pyramid then attend to itself.
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
        self.has_ffn = own_ffn and ffn_dims > 0
        if self.has_ffn:
            self.ffn_norm = build_norm(norm_cfg, embed_dims)
            self.ffn = ConvFFN(embed_dims, ffn_dims)
            self.drop_path = DropPath(drop_path_rate)
        self.interaction = None
        if interaction:
            self.interaction = PyramidAttention(
                embed_dims, ffn_dims, attention, norm_cfg, drop_path_rate
            )

    def forward(self, pyramid: Tensor, patches: Tensor, points: Tensor, shapes: Shapes) -> Tensor:
        pyramid = add_patches(pyramid, patches, shapes)
        if self.has_ffn:
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


@dataclass(frozen=True, kw_only=True)
class ViTCoMerArch(PyramidArch):
    """Architecture of a :class:`ViTCoMer`."""

    mrfp_ratio: float = option('hidden width of MRFP over ``embed_dims``; 0 leaves it out', 0.5)
    cti_to_vit: bool | Sequence[bool] = option(
        'have CTI to the ViT (and MRFP, which feeds it); a sequence sets each stage', True
    )
    cti_to_cnn: bool | Sequence[bool] = option(
        'have CTI to the CNN; a sequence sets each stage', True
    )
    cnn_interaction: bool | Sequence[bool] = option(
        'let the pyramid attend to itself in CTI to the CNN and in the extra blocks; a sequence '
        'sets each stage',
        True,
    )
    extra_cti: int = option('extra CTI blocks after the last stage', 4)
    cnn_ffn: bool = option(
        'give CTI to the CNN and the extra blocks feed-forward networks; CTI to the ViT always has '
        'one',
        True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ('cti_to_vit', 'cti_to_cnn', 'cnn_interaction'):
            self._set(**{name: per_stage(name, getattr(self, name), len(self.groups))})
        if self.ffn_dims < 1:
            raise ValueError(
                f'ffn_ratio={self.ffn_ratio} leaves the feed-forward networks of CTI no channel; '
                'to do without those on the side of the CNN set cnn_ffn=False'
            )
        if self.mrfp_ratio and (self.mrfp_dims < 2 or self.mrfp_dims % 2):
            raise ValueError(
                f'mrfp_ratio={self.mrfp_ratio} gives MRFP {self.mrfp_dims} hidden channels; it '
                'needs an even number, half for each kernel size'
            )

    @property
    def mrfp_dims(self) -> int:
        """Hidden width of MRFP."""
        return int(self.embed_dims * self.mrfp_ratio)


@MODELS.register_module()
class ViTCoMer(PyramidAdapter):
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
        arch: ``'t' 's' 'b' 'l'``, the published detection models, ``'t_seg' 's_seg' 'b_seg'``,
            the segmentation ones, or a dict.

    Shapes:
        ``(N, in_channels, H, W)`` to ``(N, embed_dims, ceil(H / s), ceil(W / s))``, s = 4 to 32.

    Raises:
        ValueError: unknown arch, inconsistent settings, or an unfit image.
    """

    family = 'vitcomer'
    arch_type = ViTCoMerArch
    arch_settings = {
        't': SIZES['t'],
        's': SIZES['s'],
        'b': SIZES['b'] | WIDE,
        'l': SIZES['l'] | WIDE | dict(deform_heads=16),
        't_seg': SIZES['t'] | SEGMENTATION | dict(mrfp_ratio=6.0),
        's_seg': SIZES['s'] | SEGMENTATION | dict(mrfp_ratio=1.5),
        'b_seg': SIZES['b'] | WIDE | SEGMENTATION | dict(mrfp_ratio=1.0),
    }
    pretrained_parts = {'vit': 'vit.', 'vit_comer': ''}

    def __init__(self, arch: str | dict = 'b', **options: Any):
        super().__init__(arch, **options)
        added = dict(last=True, stages=self.levels[-1] == 3, none=False)[self.arch.vit_features]
        if not (added or self.arch.cti_to_cnn[-1] or self.arch.extra_cti):
            raise ValueError(
                'the last blocks of the ViT would not reach any output; switch on the last '
                'cti_to_cnn, extra_cti or vit_features, or put out the last level'
            )

    def build_stages(self, attention: dict, norm_cfg: dict, drop_path_rate: float) -> list[Stage]:
        arch, dims = self.arch, self.arch.embed_dims
        common = dict(
            embed_dims=dims,
            attention=dict(attention, num_levels=3),
            norm_cfg=dict(type='LN', eps=1e-6),
            drop_path_rate=drop_path_rate,
        )
        to_cnn = dict(common, ffn_dims=arch.ffn_dims if arch.cnn_ffn else 0)
        stages = []
        for i, (with_vit, with_cnn) in enumerate(
            zip(arch.cti_to_vit, arch.cti_to_cnn, strict=True)
        ):
            with_mrfp = with_vit and arch.mrfp_dims > 0
            extra = arch.extra_cti if i == len(self.groups) - 1 else 0
            to_cnn['interaction'] = arch.cnn_interaction[i]
            stages.append(
                Stage(
                    mrfp=MRFP(dims, arch.mrfp_dims, 3, norm_cfg) if with_mrfp else None,
                    to_vit=CTIToViT(ffn_dims=arch.ffn_dims, **common) if with_vit else None,
                    to_cnn=CTIToCNN(own_ffn=False, **to_cnn) if with_cnn else None,
                    extra=[CTIToCNN(own_ffn=True, **to_cnn) for _ in range(extra)],
                )
            )
        return stages

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.check_image(x)
        image = self.pad_image(x, 32)

        stem, pyramid, shapes = self.embed_pyramid(image)
        points = reference_points(shapes, image.device)

        tokens, grid = self.vit.embed(image)
        count = self.vit.num_prefix_tokens
        features = []
        for stage, (first, last) in zip(self.stages, self.groups, strict=True):
            if stage.to_vit is not None:
                prefix, patches = tokens.tensor_split((count,), dim=1)
                if stage.mrfp is not None:
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

        return self.output_maps(stem, pyramid, shapes, features, grid, x.shape[2:])


def sum_levels(pyramid: Tensor, shapes: Shapes) -> Tensor:
    """Resize the levels of ``(N, S, C)`` to the middle one and add them up: ``(N, h * w, C)``."""
    fine, middle, coarse = split_levels(pyramid, shapes)
    return join_levels([resize_map(fine, shapes[1]) + middle + resize_map(coarse, shapes[1])])


def add_patches(pyramid: Tensor, patches: Tensor, shapes: Shapes) -> Tensor:
    """Add patch tokens ``(N, h * w, C)`` to the middle level of the pyramid ``(N, S, C)``."""
    fine, middle, coarse = pyramid.split([h * w for h, w in shapes], dim=1)
    return torch.cat((fine, middle + patches, coarse), dim=1)
