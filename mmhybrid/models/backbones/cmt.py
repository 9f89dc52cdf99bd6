"""CMT: convolutions and lightweight attention in every block of four stages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from mmhybrid.registry import MODELS

from ..kernels import biased_attention
from ..layers import DropPath, Linear, PairBias, build_norm, fold_into_next, fold_into_previous
from .arch import Arch, option, per_stage
from .base import Backbone


class Stem(nn.Sequential):
    """Three 3x3 convolutions, the first of stride 2; each activation comes before its norm."""

    def __init__(self, in_channels: int, channels: int, norm_cfg: dict):
        layers = []
        for stride, width in ((2, in_channels), (1, channels), (1, channels)):
            layers += [
                nn.Conv2d(width, channels, 3, stride=stride, padding=1),
                nn.GELU(),
                build_norm(norm_cfg, channels),
            ]
        super().__init__(*layers)


class ResidualDWConv(nn.Conv2d):
    """``x`` plus its 3x3 depth-wise convolution, ``(N, C, H, W)`` in and out."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class LMHSA(nn.Module):
    """Lightweight multi-head self-attention: all positions attend to a reduced map.

    Keys and values come from one depth-wise convolution of kernel and stride ``sr_ratio``, before
    their projections, as in the original code (and PVT); the paper draws one for each, after them.

    Args:
        dims: C.
        num_heads: must divide C.
        sr_ratio: k, the reduction of each side; 1 for none.
        qkv_bias: give the projections to queries, keys and values a bias.
        qk_dims: width of queries and keys.
        scale: factor of the products.
        norm_cfg: norm of the reduced map.
    """

    def __init__(
        self,
        dims: int,
        num_heads: int,
        *,
        sr_ratio: int,
        qkv_bias: bool,
        qk_dims: int,
        scale: float,
        norm_cfg: dict,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.scale = scale
        self.q = Linear(dims, qk_dims, bias=qkv_bias)
        self.k = Linear(dims, qk_dims, bias=qkv_bias)
        self.v = Linear(dims, dims, bias=qkv_bias)
        self.reduce = None
        if sr_ratio > 1:
            self.reduce = nn.Sequential(
                nn.Conv2d(dims, dims, sr_ratio, stride=sr_ratio, groups=dims),
                build_norm(norm_cfg, dims),
            )
        self.proj = Linear(dims, dims)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attend over a map ``(N, C, H, W)``, in and out, with a bias ``(heads, H * W, h * w)``."""
        size = x.shape[2:]
        source = x if self.reduce is None else self.reduce(x)
        # (N, C, H, W) -> (N, H W, C)
        x, source = (m.flatten(2).transpose(1, 2) for m in (x, source))
        q, k, v = (
            # (N, L, C) -> (N, heads, L, C / heads)
            tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for tokens in (self.q(x), self.k(source), self.v(source))
        )
        x = biased_attention(q, k, v, bias, self.scale)
        x = self.proj(x.transpose(1, 2).flatten(2))  # (N, heads, L, C / heads) -> (N, L, C)
        return x.transpose(1, 2).unflatten(2, size)  # (N, H W, C) -> (N, C, H, W)


class IRFFN(nn.Module):
    """Inverted residual feed-forward network: expand, 3x3 depth-wise with shortcut, project.

    Each activation comes before its norm.
    """

    def __init__(self, dims: int, hidden_dims: int, *, shortcut: bool, norm_cfg: dict):
        super().__init__()
        self.expand = Linear(dims, hidden_dims)
        self.expand_norm = build_norm(norm_cfg, hidden_dims)
        self.act = nn.GELU()
        self.dwconv = (
            ResidualDWConv(hidden_dims)
            if shortcut
            else nn.Conv2d(hidden_dims, hidden_dims, 3, padding=1, groups=hidden_dims)
        )
        self.dw_norm = build_norm(norm_cfg, hidden_dims)
        self.project = Linear(hidden_dims, dims)
        self.project_norm = build_norm(norm_cfg, dims)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.expand(x.permute(0, 2, 3, 1)))  # (N, C, H, W) -> (N, H, W, C)
        x = self.expand_norm(x.permute(0, 3, 1, 2))  # (N, H, W, C) -> (N, C, H, W)
        x = self.dw_norm(self.act(self.dwconv(x)))
        x = self.project(x.permute(0, 2, 3, 1))  # (N, C, H, W) -> (N, H, W, C)
        return self.project_norm(x.permute(0, 3, 1, 2))  # (N, H, W, C) -> (N, C, H, W)

    def fuse_norms(self) -> None:
        """See :meth:`Backbone.fuse`. The first norm stays: the convolution after it pads."""
        self.dw_norm = fold_into_next(self.dw_norm, self.project)
        self.project_norm = fold_into_previous(self.project_norm, self.project)


class Block(nn.Module):
    """LPU, then LMHSA and IRFFN as pre-norm residual branches; ``(N, C, H, W)`` in and out.

    The LPU, local perception unit, is a depth-wise convolution with a shortcut.
    """

    def __init__(
        self,
        dims: int,
        num_heads: int,
        hidden_dims: int,
        *,
        lpu: bool,
        ffn_shortcut: bool,
        norm_cfg: dict,
        drop_path_rate: float,
        **attention: Any,
    ):
        super().__init__()
        self.lpu = ResidualDWConv(dims) if lpu else nn.Identity()
        self.norm1 = build_norm(dict(type='LN2d', eps=1e-6), dims)
        self.attn = LMHSA(dims, num_heads, norm_cfg=norm_cfg, **attention)
        self.norm2 = build_norm(dict(type='LN2d', eps=1e-6), dims)
        self.ffn = IRFFN(dims, hidden_dims, shortcut=ffn_shortcut, norm_cfg=norm_cfg)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.lpu(x)
        x = x + self.drop_path(self.attn(self.norm1(x), bias))
        return x + self.drop_path(self.ffn(self.norm2(x)))


class Stage(nn.Module):
    """Patch embedding, blocks, and the one bias that all of them share.

    Args:
        in_channels, dims: width before and after the patch embedding.
        patch_size: its kernel and stride.
        grid: ``(h, w)`` of the map that the bias is for.
        bias_resize: see :class:`PairBias`.
        drop_path_rates: one for each block.
        block: further arguments of :class:`Block`.
    """

    def __init__(
        self,
        in_channels: int,
        dims: int,
        *,
        patch_size: int,
        grid: tuple[int, int],
        num_heads: int,
        sr_ratio: int,
        bias_resize: Literal['separable', 'flat'],
        drop_path_rates: Sequence[float],
        **block: Any,
    ):
        super().__init__()
        self.sr_ratio = sr_ratio
        self.patch_embed = nn.Sequential(
            nn.Conv2d(in_channels, dims, patch_size, stride=patch_size),
            # This norm has torch's eps in the original, unlike those of the blocks.
            build_norm(dict(type='LN2d', eps=1e-5), dims),
        )
        self.bias = PairBias(grid, self._key_grid(grid), num_heads, resize=bias_resize)
        self.blocks = nn.ModuleList(
            Block(dims, num_heads, sr_ratio=sr_ratio, drop_path_rate=rate, **block)
            for rate in drop_path_rates
        )

    def pair_bias(self, x: Tensor) -> Tensor:
        """Return the bias ``(heads, H * W, h * w)`` for a map ``(N, C, H, W)``."""
        grid = (x.shape[2], x.shape[3])
        return self.bias(grid, self._key_grid(grid))

    def _key_grid(self, grid: tuple[int, int]) -> tuple[int, int]:
        return grid[0] // self.sr_ratio, grid[1] // self.sr_ratio


class Head(nn.Module):
    """The original's classification head: ``(N, C, H, W)`` to ``(N, num_classes)``."""

    def __init__(self, dims: int, hidden_dims: int, num_classes: int, drop: float, norm_cfg: dict):
        super().__init__()
        self.conv = Linear(dims, hidden_dims)
        self.norm = build_norm(norm_cfg, hidden_dims)
        self.act = nn.SiLU()
        self.drop = nn.Dropout(drop)
        self.fc = nn.Linear(hidden_dims, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # to (N, H, W, C) and back
        x = self.act(self.norm(x))
        return self.fc(self.drop(x.mean(dim=(2, 3))))

    def fuse_norms(self) -> None:
        """See :meth:`Backbone.fuse`."""
        self.norm = fold_into_previous(self.norm, self.conv)


def scale_arch(phi: float, base: str = 's') -> dict[str, Any]:
    """Scale an architecture to another size by the paper's compound scaling (Eq. 17).

    Depths grow by 1.2, widths by 1.3 and the training resolution by 1.15 to the power of phi, so
    that FLOPs grow about 2.5-fold for each unit. Depths are rounded, at least 1; the first width is
    rounded to an even number and the others keep their ratio to it; the resolution is rounded to
    multiples of 32. The published sizes were set by hand near this curve.

    Args:
        phi: 0 for the base itself, negative for smaller ones.
        base: a name in ``CMT.arch_settings``.

    Returns:
        dict: for ``CMT(arch=...)``; ``pretrain_size`` is the resolution to train at.
    """
    alpha, beta, gamma = 1.2, 1.3, 1.15
    arch = CMT.arch_settings[base]
    width = arch['embed_dims'][0]
    scaled = max(2 * round(width * beta**phi / 2), 2)
    return {
        **arch,
        'embed_dims': tuple(dims * scaled // width for dims in arch['embed_dims']),
        'stem_channels': max(round(arch['stem_channels'] * scaled / width), 1),
        'depths': tuple(max(round(depth * alpha**phi), 1) for depth in arch['depths']),
        'pretrain_size': max(32 * round(arch['pretrain_size'] * gamma**phi / 32), 32),
    }


@dataclass(frozen=True, kw_only=True)
class CMTArch(Arch):
    """Architecture of a :class:`CMT`; fields that are sequences have one value a stage."""

    embed_dims: Sequence[int]
    depths: Sequence[int]
    num_heads: Sequence[int]
    sr_ratios: Sequence[int]
    stem_channels: int
    stem: Literal['conv', 'patch'] = option(
        "``'conv'``, three 3x3 convolutions at stride 2, or ``'patch'``, none: the first patch "
        'embedding takes twice as large patches of the image itself',
        'conv',
    )
    patch_sizes: int | Sequence[int] = option(
        "side of the patches that a stage's embedding makes into one position", 2
    )
    mlp_ratio: float | Sequence[float] = option(
        'hidden width of the IRFFN over that of the stage, for all stages or each', 4
    )
    lpu: bool = option('begin blocks with a local perception unit', True)
    ffn_shortcut: bool = option("give the IRFFN's depth-wise convolution a shortcut", True)
    qkv_bias: bool = option("bias of the attention's projections", True)
    qk_scale: float | None = option(
        'factor of the products, by default ``(C / heads) ** -0.5``', None
    )
    qk_ratio: int = option('C over the width of queries and keys', 1)
    pretrain_size: int = option(
        'side in pixels of the image that the biases are for, which are resized for others', 224
    )
    head_dims: int = option('width of the head', 1280)
    head_drop: float = option('dropout of the head', 0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ('embed_dims', 'num_heads', 'sr_ratios', 'patch_sizes', 'mlp_ratio'):
            self._set(**{name: per_stage(name, getattr(self, name), len(self.depths))})
        for dims, heads in zip(self.embed_dims, self.num_heads, strict=True):
            if dims % heads or dims // self.qk_ratio % heads:
                raise ValueError(
                    f'num_heads={heads} does not divide {dims} channels, or their qk_ratio='
                    f'{self.qk_ratio}-th part'
                )
        divisor = self.size_divisor
        if self.pretrain_size < 1 or self.pretrain_size % divisor:
            near = max(round(self.pretrain_size / divisor), 1) * divisor
            raise ValueError(
                f'pretrain_size={self.pretrain_size} is no multiple of {divisor}, which strides '
                f'{self.strides} and sr_ratios {self.sr_ratios} need; try {near}'
            )

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each stage's map."""
        sizes = per_stage('patch_sizes', self.patch_sizes, len(self.depths))
        return tuple(2 * math.prod(sizes[: i + 1]) for i in range(len(sizes)))

    @property
    def size_divisor(self) -> int:
        """The number that sides of images have to be multiples of, after padding."""
        return math.lcm(*(s * sr for s, sr in zip(self.strides, self.sr_ratios, strict=True)))


@MODELS.register_module()
class CMT(Backbone):
    """CMT: Convolutional Neural Networks Meet Vision Transformers, arXiv 2107.06263.

    Original: ``ggjy/CMT.pytorch``, which asserts that images have the training size; here any size
    will do. Norms, and the one bias that a stage's blocks share, are where the original code has
    them, not where the paper draws them.

    Image ``(N, in_channels, H, W)`` in; maps ``(N, C_i, ceil(H / s_i), ceil(W / s_i))`` out, of
    strides ``s = 4, 8, 16, 32`` for the published sizes, and with ``num_classes`` the class logits
    ``(N, num_classes)`` after them. Inside, images are padded to the multiple of 32 that the
    reductions need, and maps are kept channels-last.

    Args:
        arch: ``'ti' 'xs' 's' 'b'``, ``'s_single'`` (one stage of DeiT-S's size at stride 16, the
            paper's single-stage ablation), a dict that :func:`scale_arch` returns, or a dict with
            one of each a stage, ``stem_channels`` aside.
        out_indices: the stages whose maps come out; all of them if None. Stages after the last of
            them are not run, unless for the head, and not trained.
        bias_resize: ``'separable'`` or ``'flat'``, see :class:`mmhybrid.models.layers.PairBias`.
        num_classes: classes of the original's head, 0 for none.
        norm_cfg: norms of stem, IRFFN, reduced maps and head; ``dict(type='LN2d')`` is all-LN.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        with_cp: recompute stem and blocks in the backward pass, see :class:`Backbone`.
        frozen_stages: -1 nothing, 0 the stem and the first patch embedding, i also i stages.

    Raises:
        ValueError: settings that do not fit together, or an image that is no
            ``(N, in_channels, H >= 32, W >= 32)``.
    """

    family = 'cmt'
    arch_type = CMTArch
    arch_settings = {
        'ti': dict(
            embed_dims=(46, 92, 184, 368), stem_channels=16, depths=(2, 2, 10, 2),
            num_heads=(1, 2, 4, 8), sr_ratios=(8, 4, 2, 1), mlp_ratio=3.6, pretrain_size=160,
        ),
        'xs': dict(
            embed_dims=(52, 104, 208, 416), stem_channels=16, depths=(3, 3, 12, 3),
            num_heads=(1, 2, 4, 8), sr_ratios=(8, 4, 2, 1), mlp_ratio=3.77, pretrain_size=192,
        ),
        's': dict(
            embed_dims=(64, 128, 256, 512), stem_channels=32, depths=(3, 3, 16, 3),
            num_heads=(1, 2, 4, 8), sr_ratios=(8, 4, 2, 1), mlp_ratio=4, pretrain_size=224,
        ),
        'b': dict(
            embed_dims=(76, 152, 304, 608), stem_channels=38, depths=(4, 4, 20, 4),
            num_heads=(1, 2, 4, 8), sr_ratios=(8, 4, 2, 1), mlp_ratio=4, pretrain_size=256,
            head_drop=0.3,
        ),
        's_single': dict(
            embed_dims=(384,), stem_channels=32, depths=(12,), num_heads=(6,), sr_ratios=(1,),
            patch_sizes=(8,), mlp_ratio=4, pretrain_size=224,
        ),
    }  # fmt: skip
    pretrained_parts = {'cmt': ''}
    embeddings = ('stem.', 'stages.0.patch_embed.')
    stages: Any  # ModuleList of Stage: torch gives its items no type

    def __init__(
        self,
        arch: str | dict = 's',
        *,
        bias_resize: Literal['separable', 'flat'] = 'separable',
        num_classes: int = 0,
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **options: Any,
    ):
        super().__init__(arch, **options)
        arch = self.arch
        count, dims = len(arch.depths), arch.embed_dims
        self.check_frozen_stages(count)
        self.strides, self.size_divisor = arch.strides, arch.size_divisor
        norm_cfg = dict(type='BN') if norm_cfg is None else dict(norm_cfg)

        self.stem = None
        if arch.stem == 'conv':
            self.stem = Stem(self.in_channels, arch.stem_channels, norm_cfg)
        self.levels = self.resolve_indices(count)
        self.num_run = count if num_classes else self.levels[-1] + 1
        self.stages = self._build_stages(norm_cfg, drop_path_rate, bias_resize=bias_resize)
        self.head = None
        if num_classes:
            self.head = Head(dims[-1], arch.head_dims, num_classes, arch.head_drop, norm_cfg)
        self.apply(_init_layer)
        self.out_channels = tuple(dims[level] for level in self.levels)
        self.out_strides = tuple(self.strides[level] for level in self.levels)
        self.freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.check_image(x)
        size = x.shape[2:]
        self._check_norms()
        x = self.pad_image(x, self.size_divisor)
        if self.stem is not None:
            x = self.run(self.stem, x)
        outs = []
        for level, stage in enumerate(self.stages[: self.num_run]):
            x = stage.patch_embed(x)
            bias = stage.pair_bias(x)
            for block in stage.blocks:
                x = self.run(block, x, bias)
            if level in self.levels:
                outs.append(self.crop_map(x, size, self.strides[level]))
        if self.head is not None:
            outs.append(self.head(self.crop_map(x, size, self.strides[-1])))
        return tuple(outs)

    def _check_norms(self) -> None:
        norms: list = [] if self.stem is None else list(self.stem.children())[2::3]
        for ffn in (block.ffn for stage in self.stages for block in stage.blocks):
            norms += [getattr(ffn, name, None) for name in ('expand_norm', 'dw_norm')]
        if any(type(norm) is nn.Identity for norm in norms):
            raise RuntimeError(
                "batch norms that follow a GELU are gone, as mmcv's fuse_conv_bn leaves it: it has "
                'put them into the convolutions before the GELU, which changes outputs; build the '
                'model anew, load its weights, and fuse the backbone by its own fuse(), other '
                'parts by fuse_conv_bn'
            )

    # Training

    def frozen_modules(self) -> list[nn.Module | nn.Parameter]:
        frozen = list(self.stages[self.num_run :])
        if self.frozen_stages >= 0:
            frozen += [self.stages[0].patch_embed, *self.stages[: self.frozen_stages]]
            if self.stem is not None:
                frozen.append(self.stem)
        return frozen

    # Building

    def _build_stages(self, norm_cfg: dict, drop_path_rate: float, **options: Any) -> nn.ModuleList:
        arch = self.arch
        depth = sum(arch.depths)
        rates = [drop_path_rate * i / max(depth - 1, 1) for i in range(depth)]
        stages = nn.ModuleList()
        # Without a conv stem the first patch embedding covers its stride too.
        channels, stem_stride = (
            (self.in_channels, 2) if arch.stem == 'patch' else (arch.stem_channels, 1)
        )
        for i, dims in enumerate(arch.embed_dims):
            heads = arch.num_heads[i]
            side = arch.pretrain_size // self.strides[i]
            start = sum(arch.depths[:i])
            stages.append(
                Stage(
                    channels,
                    dims,
                    patch_size=arch.patch_sizes[i] * (stem_stride if i == 0 else 1),
                    grid=(side, side),
                    num_heads=heads,
                    sr_ratio=arch.sr_ratios[i],
                    drop_path_rates=rates[start : start + arch.depths[i]],
                    hidden_dims=int(dims * arch.mlp_ratio[i]),
                    qkv_bias=arch.qkv_bias,
                    qk_dims=dims // arch.qk_ratio,
                    # Of a head's values, also where queries and keys are narrower.
                    scale=arch.qk_scale or (dims // heads) ** -0.5,
                    lpu=arch.lpu,
                    ffn_shortcut=arch.ffn_shortcut,
                    norm_cfg=norm_cfg,
                    **options,
                )
            )
            channels = dims
        return stages


def _init_layer(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode='fan_out')
    elif isinstance(module, IRFFN):  # after its layers, which are 1x1 convolutions in the original
        for layer in (module.expand, module.project):
            nn.init.kaiming_normal_(layer.weight, mode='fan_out')
    elif isinstance(module, Head):
        nn.init.kaiming_normal_(module.conv.weight, mode='fan_out')
    if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None:
        nn.init.zeros_(module.bias)
