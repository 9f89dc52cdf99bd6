"""ViT-Adapter: a plain ViT with a convolutional spatial prior beside it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmhybrid.registry import MODELS

from ..kernels import Shapes, reference_points
from ..layers import ConvFFN, DropPath, MSDeformAttention, build_norm
from .adapter import SEGMENTATION, WIDE, PyramidAdapter, PyramidArch
from .arch import option
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
        """Return what to add to the patch tokens ``(N, h * w, C)``, of a pyramid ``(N, S, C)``."""
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
        self.has_ffn = ffn_dims > 0
        if self.has_ffn:
            self.ffn_norm = build_norm(LAYER_NORM, embed_dims)
            self.ffn = ConvFFN(embed_dims, ffn_dims)
            self.drop_path = DropPath(drop_path_rate)

    def forward(
        self,
        pyramid: Tensor,
        points: Tensor,
        patches: Tensor,
        grid: tuple[int, int],
        shapes: Shapes,
    ) -> Tensor:
        """Update a pyramid ``(N, S, C)`` of the given shapes by patches ``(N, h * w, C)``."""
        x = self.attn(self.query_norm(pyramid), points, self.value_norm(patches), [grid])
        x = pyramid + x
        if self.has_ffn:
            x = x + self.drop_path(self.ffn(self.ffn_norm(x), shapes))
        return x


class Stage(nn.Module):
    """The parts of ViT-Adapter around one group of ViT blocks."""

    def __init__(self, injector: Injector | None, extractor: Extractor, extra: list[Extractor]):
        super().__init__()
        self.injector = injector
        self.extractor = extractor
        self.extra = nn.ModuleList(extra)


@dataclass(frozen=True, kw_only=True)
class ViTAdapterArch(PyramidArch):
    """Architecture of a :class:`ViTAdapter`."""

    injectors: bool = option('inject into the ViT; a frozen one without keeps no graph', True)
    extra_extractors: int = option("extractors after the last stage's own", 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ffn_ratio and self.ffn_dims < 1:
            raise ValueError(
                f'ffn_ratio={self.ffn_ratio} leaves the feed-forward networks no channel; to do '
                'without them set ffn_ratio=0'
            )


DETECTION: dict[str, dict[str, Any]] = {
    't': SIZES['t'],
    's': SIZES['s'],
    'b': SIZES['b'] | WIDE,
    'l': SIZES['l'] | WIDE | dict(deform_heads=16, windows=(14, 14, 14, 14, 14, 0)),
}


@MODELS.register_module()
class ViTAdapter(PyramidAdapter):
    """ViT-Adapter: a plain ViT, and a pyramid that injects edges and extracts features.

    Vision Transformer Adapter for Dense Predictions, arXiv 2205.08534, ``czczup/ViT-Adapter``. Both
    published trees, detection and segmentation, are options of this class. Differences from them:
    batch norm where they write SyncBN (``norm_cfg`` sets it), and images whose sides 32 does not
    divide are padded and the maps cropped.

    The ViT is wrapped, not changed. A convolutional spatial prior makes the pyramid; in each stage
    an injector runs before a group of the ViT's blocks and an extractor after it; extra extractors
    follow the last.

    Args:
        arch: ``'t' 's' 'b' 'l'``, the published detection models, ``'t_seg' 's_seg' 'b_seg'
            'l_seg'``, the segmentation ones, or a dict.

    Shapes:
        ``(N, in_channels, H, W)`` to ``(N, embed_dims, ceil(H / s), ceil(W / s))``, s = 4 to 32.

    Raises:
        ValueError: unknown arch, inconsistent settings, or an unfit image.
    """

    family = 'vitadapter'
    arch_type = ViTAdapterArch
    arch_settings = {
        **DETECTION,
        **{f'{size}_seg': arch | SEGMENTATION for size, arch in DETECTION.items()},
    }
    pretrained_parts = {'vit': 'vit.', 'vit_adapter': ''}

    def __init__(self, arch: str | dict = 'b', **options: Any):
        super().__init__(arch, **options)

    def build_stages(self, attention: dict, norm_cfg: dict, drop_path_rate: float) -> list[Stage]:
        arch, dims = self.arch, self.arch.embed_dims
        stages = []
        for i in range(len(self.groups)):
            extra = arch.extra_extractors if i == len(self.groups) - 1 else 0
            extractors = [
                Extractor(dims, arch.ffn_dims, attention, drop_path_rate) for _ in range(1 + extra)
            ]
            injector = Injector(dims, attention) if arch.injectors else None
            stages.append(Stage(injector, extractors[0], extractors[1:]))
        return stages

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.check_image(x)
        image = self.pad_image(x, 32)

        stem, pyramid, shapes = self.embed_pyramid(image)

        tokens, grid = self.vit.embed(image)
        count = self.vit.num_prefix_tokens
        patch_points = reference_points([grid], image.device)
        pyramid_points = reference_points(shapes, image.device)
        features = []
        for stage, (first, last) in zip(self.stages, self.groups, strict=True):
            if stage.injector is not None:
                prefix, patches = tokens.tensor_split((count,), dim=1)
                patches = patches + self.run(stage.injector, patches, patch_points, pyramid, shapes)
                tokens = torch.cat((prefix, patches), dim=1) if count else patches
            tokens = self.vit.run_blocks(tokens, grid, first, last + 1)
            patches = tokens[:, count:]
            features.append(patches)
            for extractor in (stage.extractor, *stage.extra):
                pyramid = self.run(extractor, pyramid, pyramid_points, patches, grid, shapes)

        return self.output_maps(stem, pyramid, shapes, features, grid, x.shape[2:])
