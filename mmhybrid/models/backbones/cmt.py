"""CMT: convolutions and lightweight attention in every block of four stages."""

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Literal

from torch import Tensor, nn

from mmhybrid.registry import MODELS

from ..kernels import biased_attention
from ..layers import (
    DropPath,
    PairBias,
    PointwiseConv,
    ResidualDWConv,
    build_norm,
    fold_into_next,
    fold_into_previous,
)
from .base import REQUIRED, Backbone


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


class LMHSA(nn.Module):
    """Lightweight multi-head self-attention: all positions attend to a reduced map.

    Keys and values come from one depth-wise convolution of kernel and stride ``sr_ratio``, before
    their projections, as in the original code (and PVT); the paper draws one for each, after them.

    Args:
        dims: C.
        num_heads: must divide C.
        sr_ratio: k, the reduction of each side; 1 for none.
        qkv_bias: whether the projections to queries, keys and values have a bias.
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
        self.q = PointwiseConv(dims, qk_dims, bias=qkv_bias)
        self.k = PointwiseConv(dims, qk_dims, bias=qkv_bias)
        self.v = PointwiseConv(dims, dims, bias=qkv_bias)
        self.reduce = None
        if sr_ratio > 1:
            self.reduce = nn.Sequential(
                nn.Conv2d(dims, dims, sr_ratio, stride=sr_ratio, groups=dims),
                build_norm(norm_cfg, dims),
            )
        self.proj = PointwiseConv(dims, dims)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """``(N, C, H, W)`` in and out, with the bias ``(heads, H * W, h * w)`` of a reduced map."""
        source = x if self.reduce is None else self.reduce(x)
        q, k, v = (
            # (N, C, h, w) -> (N, L, heads, C / heads) -> (N, heads, L, C / heads)
            m.flatten(2).transpose(1, 2).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for m in (self.q(x), self.k(source), self.v(source))
        )
        out = biased_attention(q, k, v, bias, self.scale)
        # (N, heads, L, D) -> (N, L, C) -> (N, C, H, W)
        out = out.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, x.shape[2:])
        return self.proj(out)


class IRFFN(nn.Module):
    """Inverted residual feed-forward network: expand, 3x3 depth-wise with shortcut, project.

    Each activation comes before its norm.
    """

    def __init__(self, dims: int, hidden_dims: int, *, shortcut: bool, norm_cfg: dict):
        super().__init__()
        self.expand = PointwiseConv(dims, hidden_dims)
        self.expand_norm = build_norm(norm_cfg, hidden_dims)
        self.act = nn.GELU()
        self.dwconv = (
            ResidualDWConv(hidden_dims)
            if shortcut
            else nn.Conv2d(hidden_dims, hidden_dims, 3, padding=1, groups=hidden_dims)
        )
        self.dw_norm = build_norm(norm_cfg, hidden_dims)
        self.project = PointwiseConv(hidden_dims, dims)
        self.project_norm = build_norm(norm_cfg, dims)

    def forward(self, x: Tensor) -> Tensor:
        x = self.expand_norm(self.act(self.expand(x)))
        x = self.dw_norm(self.act(self.dwconv(x)))
        return self.project_norm(self.project(x))

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
        bias_resize: str,
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
        self.conv = PointwiseConv(dims, hidden_dims)
        self.norm = build_norm(norm_cfg, hidden_dims)
        self.act = nn.SiLU()
        self.drop = nn.Dropout(drop)
        self.fc = nn.Linear(hidden_dims, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.conv(x)))
        return self.fc(self.drop(x.mean(dim=(2, 3))))

    def fuse_norms(self) -> None:
        """See :meth:`Backbone.fuse`."""
        self.norm = fold_into_previous(self.norm, self.conv)


def scale_arch(phi: float, base: str = 's') -> dict[str, Any]:
    """Architecture of another size by the paper's compound scaling (Eq. 17).

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


@MODELS.register_module()
class CMT(Backbone):
    """CMT: Convolutional Neural Networks Meet Vision Transformers, arXiv 2107.06263.

    Original: ``ggjy/CMT.pytorch``; what differs: images of any size are taken, where the original
    asserts the training size. Norms, and the one bias that a stage's blocks share, are where the
    original code has them, not where the paper draws them.

    Image ``(N, in_channels, H, W)`` in; maps ``(N, C_i, ceil(H / s_i), ceil(W / s_i))`` out, of
    strides ``s = 4, 8, 16, 32`` for the published sizes, and with ``num_classes`` the class logits
    ``(N, num_classes)`` after them. Inside, images are padded to the multiple of 32 that the
    reductions need, and maps are kept channels-last.

    Args:
        arch: ``'ti' 'xs' 's' 'b'``, ``'s_single'`` (one stage of DeiT-S's size at stride 16, the
            paper's single-stage ablation), what :func:`scale_arch` returns, or a dict of
            ``embed_dims``, ``depths``, ``num_heads`` and ``sr_ratios``, one of each a stage, and
            ``stem_channels``, to which any of the arguments marked * can be added.
        in_channels: channels of the image.
        out_indices: the stages whose maps come out; all of them if None. Stages after the last of
            them are not run, unless for the head, and not trained.
        stem: * ``'conv'`` (default), three 3x3 convolutions at stride 2, or ``'patch'``, none: the
            first patch embedding takes twice as large patches of the image itself.
        patch_sizes: * patches that a stage's embedding makes into one position, default 2.
        mlp_ratio: * hidden width of the IRFFN, for all stages or each; default 4.
        lpu: * whether blocks begin with a local perception unit, default True.
        ffn_shortcut: * whether the IRFFN's depth-wise convolution has a shortcut, default True.
        qkv_bias, qk_scale, qk_ratio: * of the attention: bias of the projections, default True;
            factor of the products, default ``(C / heads) ** -0.5``; C by the width of queries and
            keys, default 1.
        pretrain_size: * side in pixels of the image that the biases are for. For other images
            they are resized.
        bias_resize: ``'separable'`` or ``'flat'``, see :class:`mmhybrid.models.layers.PairBias`.
        num_classes: classes of the original's head, 0 for none.
        head_dims, head_drop: * its width, default 1280, and dropout, default 0.1.
        norm_cfg: norms of stem, IRFFN, reduced maps and head; ``dict(type='LN2d')`` is all-LN.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        with_cp: recompute blocks in the backward pass to save memory.
        frozen_stages: -1 nothing, 0 the stem and the first patch embedding, i also i stages.
        norm_eval: keep batch norms in evaluation mode while training.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        ValueError: settings that do not fit together, or an image that is no
            ``(N, in_channels, H >= 32, W >= 32)``.
    """

    family = 'cmt'
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
    arch_defaults = dict(
        embed_dims=REQUIRED,
        depths=REQUIRED,
        num_heads=REQUIRED,
        sr_ratios=REQUIRED,
        stem_channels=REQUIRED,
        stem='conv',
        patch_sizes=2,
        mlp_ratio=4,
        lpu=True,
        ffn_shortcut=True,
        qkv_bias=True,
        qk_scale=None,
        qk_ratio=1,
        pretrain_size=224,
        head_dims=1280,
        head_drop=0.1,
    )
    pretrained_parts = {'cmt': ''}

    def __init__(
        self,
        arch: str | dict = 's',
        *,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
        stem: Literal['conv', 'patch'] | None = None,
        patch_sizes: int | Sequence[int] | None = None,
        mlp_ratio: float | Sequence[float] | None = None,
        lpu: bool | None = None,
        ffn_shortcut: bool | None = None,
        qkv_bias: bool | None = None,
        qk_scale: float | None = None,
        qk_ratio: int | None = None,
        pretrain_size: int | None = None,
        bias_resize: Literal['separable', 'flat'] = 'separable',
        num_classes: int = 0,
        head_dims: int | None = None,
        head_drop: float | None = None,
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list | None = None,
    ):
        arch = self.resolve_arch(
            arch,
            stem=stem,
            patch_sizes=patch_sizes,
            mlp_ratio=mlp_ratio,
            lpu=lpu,
            ffn_shortcut=ffn_shortcut,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            qk_ratio=qk_ratio,
            pretrain_size=pretrain_size,
            head_dims=head_dims,
            head_drop=head_drop,
        )
        count = len(arch.depths)
        super().__init__(
            in_channels=in_channels,
            out_indices=range(count) if out_indices is None else out_indices,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            with_cp=with_cp,
            init_cfg=init_cfg,
        )
        self.depths = tuple(arch.depths)
        arch.embed_dims, arch.num_heads, arch.sr_ratios = (
            _per_stage(name, getattr(arch, name), count)
            for name in ('embed_dims', 'num_heads', 'sr_ratios')
        )
        arch.patch_sizes = _per_stage('patch_sizes', arch.patch_sizes, count)
        arch.mlp_ratio = _per_stage('mlp_ratio', arch.mlp_ratio, count)
        self.strides = tuple(2 * math.prod(arch.patch_sizes[: i + 1]) for i in range(count))
        self.size_divisor = math.lcm(
            *(s * sr for s, sr in zip(self.strides, arch.sr_ratios, strict=True))
        )
        self._check(arch)
        norm_cfg = dict(type='BN') if norm_cfg is None else dict(norm_cfg)

        self.stem = None
        if arch.stem == 'conv':
            self.stem = Stem(in_channels, arch.stem_channels, norm_cfg)
        self.levels = self.resolve_indices(count)
        self.num_run = count if num_classes else self.levels[-1] + 1
        self.stages = self._build_stages(arch, bias_resize, norm_cfg, drop_path_rate)
        self.head = None
        if num_classes:
            self.head = Head(
                arch.embed_dims[-1], arch.head_dims, num_classes, arch.head_drop, norm_cfg
            )
        self.apply(_init_layer)
        self.out_channels = tuple(arch.embed_dims[level] for level in self.levels)
        self.out_strides = tuple(self.strides[level] for level in self.levels)
        self.freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.check_image(x)
        size = tuple(x.shape[2:])
        self._check_norms()
        x = self.pad_image(x, self.size_divisor)
        if self.stem is not None:
            x = self.stem(x)
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
        norms = [] if self.stem is None else [self.stem[2], self.stem[5]]
        for stage in self.stages:
            for block in stage.blocks:
                norms += [block.ffn.expand_norm, block.ffn.dw_norm]
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

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """0 for stem and first patch embedding, then one depth a block, then all that follows.

        A stage's patch embedding and bias are at the depth of its first block.
        """
        count = sum(self.depths) + 2
        stage, *rest = param_name.removeprefix(f'{prefix}stages.').split('.')
        if param_name.startswith(f'{prefix}stages.'):
            stage = int(stage)
            if stage == 0 and rest[0] == 'patch_embed':
                return 0, count
            block = int(rest[1]) if rest[0] == 'blocks' else 0
            return sum(self.depths[:stage]) + block + 1, count
        return (0 if param_name.startswith(f'{prefix}stem.') else count - 1), count

    # Building

    def _build_stages(
        self, arch: SimpleNamespace, bias_resize: str, norm_cfg: dict, drop_path_rate: float
    ) -> nn.ModuleList:
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
                    bias_resize=bias_resize,
                    drop_path_rates=rates[start : start + arch.depths[i]],
                    hidden_dims=int(dims * arch.mlp_ratio[i]),
                    qkv_bias=arch.qkv_bias,
                    qk_dims=dims // arch.qk_ratio,
                    # Of a head's values, also where queries and keys are narrower.
                    scale=arch.qk_scale or (dims // heads) ** -0.5,
                    lpu=arch.lpu,
                    ffn_shortcut=arch.ffn_shortcut,
                    norm_cfg=norm_cfg,
                )
            )
            channels = dims
        return stages

    def _check(self, arch: SimpleNamespace) -> None:
        if arch.stem not in ('conv', 'patch'):
            raise ValueError(f"stem={arch.stem!r}: expected 'conv' or 'patch'")
        for dims, heads in zip(arch.embed_dims, arch.num_heads, strict=True):
            if dims % heads or dims // arch.qk_ratio % heads:
                raise ValueError(
                    f'num_heads={heads} does not divide {dims} channels, or their qk_ratio='
                    f'{arch.qk_ratio}-th part'
                )
        if arch.pretrain_size < 1 or arch.pretrain_size % self.size_divisor:
            near = max(round(arch.pretrain_size / self.size_divisor), 1) * self.size_divisor
            raise ValueError(
                f'pretrain_size={arch.pretrain_size} is no multiple of {self.size_divisor}, which '
                f'strides {self.strides} and sr_ratios {tuple(arch.sr_ratios)} need; try {near}'
            )
        count = len(arch.depths)
        if self.frozen_stages > count:
            raise ValueError(
                f'frozen_stages={self.frozen_stages}: CMT has {count} stages here; use -1 '
                f'(nothing) to {count}'
            )


def _per_stage(name: str, value: Any, count: int) -> tuple:
    if not isinstance(value, Sequence):
        return (value,) * count
    if len(value) != count:
        raise ValueError(f'{name} has {len(value)} entries for {count} stages: {tuple(value)}')
    return tuple(value)


def _init_layer(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode='fan_out')
    elif isinstance(module, (IRFFN, Head)):  # after their layers, which are convolutions to them
        for layer in module.children():
            if isinstance(layer, PointwiseConv):
                nn.init.kaiming_normal_(layer.weight, mode='fan_out')
        return
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
