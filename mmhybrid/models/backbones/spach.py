"""SPACH: one frame, in which convolution, attention or an MLP mixes the tokens of an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from mmhybrid.registry import MODELS

from ..kernels import Grid
from ..layers import Attention, DropPath, LayerScale, Linear, Mlp, build_norm
from .arch import Arch, option
from .base import Backbone

MIXINGS = ('conv', 'attn', 'mlp')


class Stem(nn.Module):
    """Patch embedding ``(N, C, H, W)`` to ``(N, D, H / patch_size, W / patch_size)``, and a norm.

    Args:
        kind: ``'patch'``, one convolution; ``'conv'``, the deep stem of S+: a 7x7 convolution of
            stride 2, two of 3x3, and one that embeds patches of half the size.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        patch_size: int,
        kind: str,
        conv_norm_cfg: dict,
        norm_cfg: dict,
    ):
        super().__init__()
        if kind == 'patch':
            self.proj: nn.Module = nn.Conv2d(in_channels, embed_dims, patch_size, stride=patch_size)
        else:
            layers, width, half = [], in_channels, patch_size // 2
            for kernel, stride in ((7, 2), (3, 1), (3, 1)):
                conv = nn.Conv2d(width, 64, kernel, stride, padding=kernel // 2, bias=False)
                layers += [conv, build_norm(conv_norm_cfg, 64), nn.ReLU()]
                width = 64
            self.proj = nn.Sequential(*layers, nn.Conv2d(width, embed_dims, half, stride=half))
        self.norm = build_norm(norm_cfg, embed_dims)

    def forward(self, image: Tensor) -> Tensor:
        x = self.proj(image)
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (N, D, h, w), and back


class Downsample(nn.Module):
    """``(N, C, H, W)`` to ``(N, D, ceil(H / 2), ceil(W / 2))``; odd sides are padded with zeros."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 2, stride=2, bias=False)
        self.norm = nn.GroupNorm(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(Backbone.pad_image(x, 2)))


class SpatialMlp(nn.Module):
    """Two linear layers over the tokens of each channel: ``(N, num_tokens, C)``, in and out."""

    def __init__(self, num_tokens: int, hidden_tokens: int):
        super().__init__()
        self.fc1 = Linear(num_tokens, hidden_tokens)
        self.act = nn.GELU()
        self.fc2 = Linear(hidden_tokens, num_tokens)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        x = self.fc2(self.act(self.fc1(x.transpose(1, 2))))  # (N, L, C) -> (N, C, L)
        return x.transpose(1, 2)  # (N, C, L) -> (N, L, C)


class MixingBlock(nn.Module):
    """Tokens ``(N, H * W, C)`` of a grid pass a spatial mixing, then a channel MLP.

    As in the original the 3x3 depth-wise convolution is a bypass beside the mixing: it reads the
    input, without a norm, and is neither scaled nor dropped. A block without a mixing is just it.

    Args:
        mixing: module that takes tokens and grid, or None.
        layer_scale: initial value of the mixing's LayerScale, None for none.
        conv_bypass: have that convolution.
    """

    def __init__(
        self,
        embed_dims: int,
        hidden_dims: int,
        *,
        mixing: nn.Module | None,
        layer_scale: float | None,
        conv_bypass: bool,
        norm_cfg: dict,
        drop_path_rate: float,
    ):
        super().__init__()
        self.mixing = mixing
        if mixing is not None:
            self.norm1 = build_norm(norm_cfg, embed_dims)
            self.layer_scale = (
                nn.Identity() if layer_scale is None else LayerScale(embed_dims, layer_scale)
            )
        self.conv = None
        if conv_bypass:
            self.conv = nn.Conv2d(embed_dims, embed_dims, 3, padding=1, groups=embed_dims)
        self.norm2 = build_norm(norm_cfg, embed_dims)
        self.mlp = Mlp(embed_dims, hidden_dims)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        out = x
        if self.mixing is not None:
            out = out + self.drop_path(self.layer_scale(self.mixing(self.norm1(x), grid)))
        if self.conv is not None:
            maps = x.transpose(1, 2).unflatten(2, grid)  # (N, H W, C) -> (N, C, H, W)
            out = out + self.conv(maps).flatten(2).transpose(1, 2)  # (N, C, H, W) -> (N, H W, C)
        return out + self.drop_path(self.mlp(self.norm2(out)))


class Stage(nn.Module):
    """A downsampling (None in the first stage) and blocks; :class:`SPACH` runs them."""

    def __init__(self, downsample: Downsample | None, blocks: list[MixingBlock]):
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)


def _stages(kind: str, depths: Sequence[int]) -> tuple:
    """Return stages of one kind of mixing; the first of several is always convolution."""
    first = kind if len(depths) == 1 else 'conv'
    return tuple(((kind if i else first, depth),) for i, depth in enumerate(depths))


def _sizes(embed_dims: int, channel_ratio: int, stages: tuple) -> dict:
    """Set the heads, one for 32 channels of the first stage, and the patches' side in pixels."""
    return dict(
        embed_dims=embed_dims,
        num_heads=embed_dims // 32,
        channel_ratio=channel_ratio,
        stages=stages,
        patch_size=4 if len(stages) > 1 else 16,
    )


XXS, XS = (2, 2, 6, 2), (3, 4, 12, 3)
HYBRID_XS = (
    (('conv', 3),),
    (('conv', 4),),
    (('conv', 2), ('attn', 10)),
    (('conv', 1), ('attn', 2)),
)
HYBRID_S = (
    (('conv', 3),),
    (('conv', 2), ('attn', 2)),
    (('conv', 2), ('attn', 10)),
    (('conv', 1), ('attn', 2)),
)


@dataclass(frozen=True, kw_only=True)
class SPACHArch(Arch):
    """Architecture of a :class:`SPACH`."""

    embed_dims: int
    num_heads: int
    stages: Sequence[Sequence[tuple[str, int]]]
    patch_size: int = option('side of a patch of the stem in pixels', 4)
    stem: Literal['patch', 'conv'] = option('kind of stem, see :class:`Stem`', 'patch')
    token_ratio: float = option("hidden width of MLP mixing's MLPs over the number of tokens", 0.5)
    channel_ratio: float = option("hidden width of the channels' MLPs over that of channels", 2)
    image_size: int | tuple[int, int] = option(
        'side or (height, width) of the images that MLP mixing is tied to; nothing else reads it',
        224,
    )
    conv_bypass: bool = option('give each block its depth-wise convolution', True)
    layer_scale: float | None = option(
        "initial value of the mixing's LayerScale; in ``arch`` None is none", 1e-4
    )
    shared_mixing: bool = option("let a stage's blocks of one kind share one mixing", False)
    qkv_bias: bool = option("bias of the attention's projection", True)
    norm_cfg: dict = option('the layer norms', dict(type='LN', eps=1e-6))

    def __post_init__(self) -> None:
        super().__post_init__()
        kinds = {kind for stage in self.stages for kind, _ in stage}
        if not kinds <= set(MIXINGS):
            raise ValueError(
                f'stages={self.stages!r:.200}: expected for each stage pairs of a mixing, one of '
                f'{MIXINGS}, and a number of blocks'
            )
        if self.stem == 'conv' and self.patch_size % 2:
            raise ValueError(
                f"patch_size={self.patch_size}: stem='conv' halves the image first; give an even "
                'number'
            )
        if 'attn' in kinds and self.embed_dims % self.num_heads:
            raise ValueError(
                f'num_heads={self.num_heads} does not divide embed_dims={self.embed_dims}'
            )


@MODELS.register_module()
class SPACH(Backbone):
    """SPACH: stages of blocks that mix tokens by convolution, attention or an MLP.

    A Battle of Network Structures: An Empirical Study of CNN, Transformer, and MLP, arXiv
    2108.13002, ``microsoft/SPACH``, its multi-stage and single-stage models. Differences from it:
    any image size, square or not (odd sides are padded before they are halved), where it takes
    square ones of one size. An architecture with MLP mixing stays tied to its ``image_size``.

    Args:
        arch: ``'ms_xxs_conv' 'ms_xxs_attn' 'ms_xxs_mlp'``, the same of ``ms_xs`` and ``ms_s``,
            ``'ms_xs_hybrid' 'ms_s_hybrid' 'ms_splus_hybrid'``, the single-stage ones
            (``'xxs_conv'`` and so on), or a dict: ``embed_dims`` is the width of the first stage
            and doubles with each, ``num_heads`` is that of all stages, as in the original;
            ``stages`` gives each stage's blocks in order, such as
            ``[[('conv', 2), ('attn', 10)], ...]``.
        out_indices: stages whose output comes out, before the final norm; None for all.
        num_classes: classes of the original's head, 0 for none.
        stem_norm_cfg: norms of the convolutional stem, default ``dict(type='BN')``.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0, except in
            single-stage models, where all blocks have it.
        with_cp: recompute all parts in the backward pass, see :class:`Backbone`.
        frozen_stages: -1 nothing, 0 the stem, i also the first i stages.

    Shapes:
        ``(N, in_channels, H, W)`` to ``(N, embed_dims * 2**i, ceil(H / s), ceil(W / s))``, s =
        ``patch_size * 2**i``; with ``num_classes``, logits ``(N, num_classes)`` after them.

    Raises:
        ValueError: unknown arch, inconsistent settings, or an unfit image; with MLP mixing, of
            another size.
    """

    family = 'spach'
    arch_type = SPACHArch
    arch_settings = {
        'ms_xxs_conv': _sizes(64, 2, _stages('conv', XXS)),
        'ms_xxs_attn': _sizes(32, 2, _stages('attn', XXS)),
        'ms_xxs_mlp': _sizes(64, 2, _stages('mlp', XXS)),
        'ms_xs_conv': _sizes(96, 2, _stages('conv', XS)),
        'ms_xs_attn': _sizes(64, 2, _stages('attn', XS)),
        'ms_xs_mlp': _sizes(96, 2, _stages('mlp', XS)),
        'ms_xs_hybrid': _sizes(96, 2, HYBRID_XS),
        'ms_s_conv': _sizes(128, 3, _stages('conv', XS)),
        'ms_s_attn': _sizes(96, 3, _stages('attn', XS)),
        'ms_s_mlp': _sizes(128, 3, _stages('mlp', XS)),
        'ms_s_hybrid': _sizes(128, 3, HYBRID_S),
        'ms_splus_hybrid': _sizes(128, 3, HYBRID_S) | dict(stem='conv'),
        'xxs_conv': _sizes(384, 2, _stages('conv', [12])),
        'xxs_attn': _sizes(192, 2, _stages('attn', [12])),
        'xxs_mlp': _sizes(384, 2, _stages('mlp', [12])),
        'xs_conv': _sizes(384, 2, _stages('conv', [24])),
        'xs_attn': _sizes(384, 2, _stages('attn', [12])),
        'xs_mlp': _sizes(384, 2, _stages('mlp', [24])),
        's_conv': _sizes(512, 3, _stages('conv', [24])),
        's_attn': _sizes(512, 3, _stages('attn', [12])),
        's_mlp': _sizes(512, 3, _stages('mlp', [24])),
    }
    pretrained_parts = {'spach': ''}
    embeddings = ('stem.',)
    stages: Any  # ModuleList of Stage: torch gives its items no type

    def __init__(
        self,
        arch: str | dict = 'ms_s_hybrid',
        *,
        num_classes: int = 0,
        stem_norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **options: Any,
    ):
        super().__init__(arch, **options)
        arch = self.arch
        self.num_stages = len(arch.stages)
        self.check_frozen_stages(self.num_stages)
        self.patch_size = arch.patch_size
        size = arch.image_size
        self.image_size = (size, size) if isinstance(size, int) else tuple(size)
        self.tied_to_size = any(kind == 'mlp' for stage in arch.stages for kind, _ in stage)

        stem_norm_cfg = dict(type='BN') if stem_norm_cfg is None else stem_norm_cfg
        dims = arch.embed_dims
        self.stem = Stem(
            self.in_channels, dims, arch.patch_size, arch.stem, stem_norm_cfg, arch.norm_cfg
        )
        widths = [dims * 2**i for i in range(self.num_stages)]
        self.stages = self._build_stages(arch, widths, drop_path_rate)
        self.norm = build_norm(arch.norm_cfg, widths[-1]) if num_classes else None
        self.head = nn.Linear(widths[-1], num_classes) if num_classes else None
        self.apply(_init_layer)
        if self.head is not None:
            nn.init.zeros_(self.head.weight)

        self.levels = self.resolve_indices(self.num_stages)
        self.num_run = self.num_stages if num_classes else self.levels[-1] + 1
        self.out_channels = tuple(widths[level] for level in self.levels)
        self.out_strides = tuple(arch.patch_size * 2**level for level in self.levels)
        self.freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.check_image(x)
        self._check_size(x)
        x = self.run(self.stem, self.pad_image(x, self.patch_size))
        outs = []
        for level, stage in enumerate(self.stages[: self.num_run]):
            if stage.downsample is not None:
                x = self.run(stage.downsample, x)
            grid = (x.shape[2], x.shape[3])
            tokens = x.flatten(2).transpose(1, 2)  # (N, C, H, W) -> (N, H W, C)
            for block in stage.blocks:
                tokens = self.run(block, tokens, grid)
            x = tokens.transpose(1, 2).unflatten(2, grid)  # (N, H W, C) -> (N, C, H, W)
            if level in self.levels:
                outs.append(x.contiguous())  # see Backbone.crop_map
        if self.head is not None and self.norm is not None:
            outs.append(self.head(self.norm(tokens).mean(dim=1)))
        return tuple(outs)

    # Training

    def frozen_modules(self) -> list[nn.Module | nn.Parameter]:
        frozen = list(self.stages[self.num_run :])
        if self.frozen_stages >= 0:
            frozen += [self.stem, *self.stages[: self.frozen_stages]]
        return frozen

    # Building

    def _build_stages(
        self, arch: SPACHArch, widths: Sequence[int], drop_path_rate: float
    ) -> nn.ModuleList:
        several = self.num_stages > 1
        last = max(sum(depth for stage in arch.stages for _, depth in stage) - 1, 1)
        grid = self._grid(self.image_size)
        stages, index = nn.ModuleList(), 0
        for i, (kinds, dims) in enumerate(zip(arch.stages, widths, strict=True)):
            if i > 0:
                grid = (-(-grid[0] // 2), -(-grid[1] // 2))
            num_tokens = grid[0] * grid[1]
            blocks = []
            for kind, depth in kinds:
                mixing = None
                for _ in range(depth):
                    if mixing is None or not arch.shared_mixing:
                        mixing = _build_mixing(kind, arch, dims, num_tokens)
                    blocks.append(
                        MixingBlock(
                            dims,
                            int(dims * arch.channel_ratio),
                            mixing=mixing,
                            layer_scale=arch.layer_scale,
                            conv_bypass=arch.conv_bypass,
                            norm_cfg=arch.norm_cfg,
                            drop_path_rate=drop_path_rate * (index / last if several else 1),
                        )
                    )
                    index += 1
            downsample = Downsample(widths[i - 1], dims) if i > 0 else None
            stages.append(Stage(downsample, blocks))
        return stages

    # MLP mixing

    def _grid(self, size: Sequence[int]) -> Grid:
        """Return the grid of an image's tokens after the stem."""
        return (-(-size[0] // self.patch_size), -(-size[1] // self.patch_size))

    def _check_size(self, image: Tensor) -> None:
        size = tuple(image.shape[2:])
        if self.tied_to_size and self._grid(size) != self._grid(self.image_size):
            raise ValueError(
                'MLP mixing is tied to its number of tokens: this SPACH was built for images of '
                '{}x{} pixels, got {}x{}; crop or resize the images to that size, or set '
                'image_size={}, for which weights of another size will not fit'.format(
                    *self.image_size, *size, size
                )
            )


def _build_mixing(kind: str, arch: SPACHArch, dims: int, num_tokens: int) -> nn.Module | None:
    if kind == 'attn':
        return Attention(dims, arch.num_heads, qkv_bias=arch.qkv_bias)
    if kind == 'mlp':
        # As in the original, where the ratio leaves no hidden width it is that of the tokens.
        return SpatialMlp(num_tokens, int(num_tokens * arch.token_ratio) or num_tokens)
    return None  # the block's own convolution does it


def _init_layer(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
    if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
        nn.init.zeros_(module.bias)
