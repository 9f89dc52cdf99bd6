"""CvT: a Transformer with convolutional token embeddings and convolutional projections."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmhybrid.registry import MODELS

from ..kernels import Grid
from ..layers import DropPath, Linear, Mlp, build_norm
from .arch import Arch, option, per_stage
from .base import Backbone


class ConvEmbed(nn.Module):
    """Convolutional token embedding: an overlapping, strided convolution and a layer norm.

    ``(N, C, H, W)`` to ``(N, D, ceil(H / stride), ceil(W / stride))``. Where the original would
    drop the last rows or columns, the input is padded with zeros; elsewhere nothing changes.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        kernel: int,
        stride: int,
        padding: int,
        norm_cfg: dict,
    ):
        super().__init__()
        if not 1 <= kernel - 2 * padding <= stride:
            raise ValueError(
                f'a token embedding of patch_size {kernel}, patch_stride {stride} and '
                f'patch_padding {padding} does not divide an image by {stride}; expected '
                f'1 <= patch_size - 2 * patch_padding <= patch_stride'
            )
        self.stride = stride
        self.proj = nn.Conv2d(in_channels, embed_dims, kernel, stride=stride, padding=padding)
        self.norm = build_norm(norm_cfg, embed_dims)

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """Embed maps ``(N, C, H, W)`` as tokens ``(N, h * w, D)``, returned with their grid."""
        x = self.proj(Backbone.pad_image(x, self.stride))
        grid = (x.shape[2], x.shape[3])
        return self.norm(x.flatten(2).transpose(1, 2)), grid  # (N, D, h, w) -> (N, h w, D)


def conv_projection(
    method: str, channels: int, kernel: int, stride: int, norm_cfg: dict
) -> nn.Module:
    """Build the layer before the linear projection of queries, keys or values."""
    if method == 'dw_bn':
        conv = nn.Conv2d(
            channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False
        )
        return nn.Sequential(OrderedDict(conv=conv, norm=build_norm(norm_cfg, channels)))
    if method == 'avg':
        return nn.AvgPool2d(kernel, stride, kernel // 2, ceil_mode=True)
    return nn.Identity()


class ConvAttention(nn.Module):
    """Self-attention with convolutional projections, over ``(N, P + H * W, C)`` tokens.

    Queries, keys and values of the patches each pass a depth-wise convolution on their grid, that
    of keys and values strided, before their linear projection; the P = 0 or 1 class tokens do not.

    Args:
        method: ``'dw_bn'``, a depth-wise convolution and a batch norm; ``'avg'``, average pooling
            of keys and values alone; ``'linear'``, neither (the original's forward fails on it).
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        *,
        method: str,
        kernel: int,
        kv_stride: int,
        qkv_bias: bool,
        norm_cfg: dict,
    ):
        super().__init__()
        self.num_heads = num_heads
        # Of the full width, not of a head's, as in the original: its weights are trained so.
        self.scale = embed_dims**-0.5
        query_method = 'linear' if method == 'avg' else method
        self.conv_proj_q = conv_projection(query_method, embed_dims, kernel, 1, norm_cfg)
        self.conv_proj_k = conv_projection(method, embed_dims, kernel, kv_stride, norm_cfg)
        self.conv_proj_v = conv_projection(method, embed_dims, kernel, kv_stride, norm_cfg)
        self.proj_q = Linear(embed_dims, embed_dims, bias=qkv_bias)
        self.proj_k = Linear(embed_dims, embed_dims, bias=qkv_bias)
        self.proj_v = Linear(embed_dims, embed_dims, bias=qkv_bias)
        self.proj = Linear(embed_dims, embed_dims)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        prefix, patches = x.tensor_split((x.shape[1] - grid[0] * grid[1],), dim=1)
        maps = patches.transpose(1, 2).unflatten(2, grid)  # (N, h w, C) -> (N, C, h, w)
        q = self._project(maps, prefix, self.conv_proj_q, self.proj_q)
        k = self._project(maps, prefix, self.conv_proj_k, self.proj_k)
        v = self._project(maps, prefix, self.conv_proj_v, self.proj_v)
        x = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(x.transpose(1, 2).flatten(2))  # (N, heads, L, D) -> (N, L, C)

    def _project(self, maps: Tensor, prefix: Tensor, conv: nn.Module, linear: nn.Linear) -> Tensor:
        patches = conv(maps).flatten(2).transpose(1, 2)  # (N, C, h, w) -> (N, h w, C)
        tokens = torch.cat((prefix.to(patches.dtype), patches), dim=1)
        # (N, L, C) -> (N, heads, L, C / heads)
        return linear(tokens).unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class QuickGELU(nn.Module):
    """The sigmoid approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Convolutional Transformer block: pre-norm attention and feed-forward network."""

    def __init__(
        self,
        embed_dims: int,
        hidden_dims: int,
        *,
        attention: dict,
        act: str,
        norm_cfg: dict,
        drop_path_rate: float,
    ):
        super().__init__()
        self.norm1 = build_norm(norm_cfg, embed_dims)
        self.attn = ConvAttention(embed_dims, **attention)
        self.norm2 = build_norm(norm_cfg, embed_dims)
        self.mlp = Mlp(embed_dims, hidden_dims, nn.GELU() if act == 'gelu' else QuickGELU())
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x), grid))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Stage(nn.Module):
    """A token embedding, a class token or None, and blocks; :class:`CvT` runs them.

    Args:
        settings: those of the stage, see :meth:`CvTArch.stage`.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
    """

    def __init__(
        self,
        in_channels: int,
        settings: SimpleNamespace,
        *,
        proj_norm_cfg: dict,
        norm_cfg: dict,
        drop_path_rate: float,
    ):
        super().__init__()
        dims, depth = settings.embed_dims, settings.depths
        patches = settings.patch_sizes, settings.patch_strides, settings.patch_paddings
        self.patch_embed = ConvEmbed(in_channels, dims, *patches, norm_cfg)
        self.cls_token = None
        if settings.class_token:
            self.cls_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, dims), std=0.02))
        attention = dict(
            num_heads=settings.num_heads,
            method=settings.projection,
            kernel=settings.qkv_kernel,
            kv_stride=settings.kv_stride,
            qkv_bias=settings.qkv_bias,
            norm_cfg=proj_norm_cfg,
        )
        self.blocks = nn.ModuleList(
            Block(
                dims,
                int(dims * settings.mlp_ratio),
                attention=attention,
                act=settings.act,
                norm_cfg=norm_cfg,
                drop_path_rate=drop_path_rate * i / max(depth - 1, 1),
            )
            for i in range(depth)
        )


@dataclass(frozen=True, kw_only=True)
class CvTArch(Arch):
    """Architecture of a :class:`CvT`: all fields but ``norm_cfg`` have one value a stage.

    One value that is given stands for all stages, that of ``class_token`` for the last.
    """

    embed_dims: Sequence[int]
    depths: Sequence[int]
    num_heads: Sequence[int]
    mlp_ratio: float | Sequence[float] = 4
    patch_sizes: Sequence[int] = option("kernels of the token embeddings' convolutions", (7, 3, 3))
    patch_strides: Sequence[int] = option('their strides', (4, 2, 2))
    patch_paddings: Sequence[int] = option('their paddings', (2, 1, 1))
    projection: Literal['dw_bn', 'avg', 'linear'] | Sequence[str] = option(
        'method of the convolutional projection, see :class:`ConvAttention`', 'dw_bn'
    )
    qkv_kernel: int | Sequence[int] = option('side of the convolutional projection, odd', 3)
    kv_stride: int | Sequence[int] = option('stride of keys and values', 2)
    qkv_bias: bool | Sequence[bool] = option('bias of the linear projections', True)
    act: Literal['quick_gelu', 'gelu'] | Sequence[str] = option('the activation', 'quick_gelu')
    class_token: bool | Sequence[bool] = option(
        'give the last stage a class token, which the maps of published weights need', True
    )
    norm_cfg: dict = option('the layer norms', dict(type='LN', eps=1e-5))

    def __post_init__(self) -> None:
        super().__post_init__()
        count = len(self.depths)
        if not isinstance(self.class_token, Sequence):
            self._set(class_token=(False,) * (count - 1) + (bool(self.class_token),))
        for it in fields(self):
            if it.name != 'norm_cfg':
                self._set(**{it.name: per_stage(it.name, getattr(self, it.name), count)})
        for dims, heads in zip(self.embed_dims, self.num_heads, strict=True):
            if dims % heads:
                raise ValueError(f'num_heads={heads} does not divide embed_dims={dims}')
        for kernel in per_stage('qkv_kernel', self.qkv_kernel, count):
            if kernel % 2 == 0:
                raise ValueError(f'qkv_kernel={kernel}: an even one has no centre; use an odd one')

    def stage(self, index: int) -> SimpleNamespace:
        """Return the settings of one stage."""
        names = [it.name for it in fields(self) if it.name != 'norm_cfg']
        return SimpleNamespace(**{name: getattr(self, name)[index] for name in names})


@MODELS.register_module()
class CvT(Backbone):
    """Convolutional vision Transformer: three stages of strides 4, 8 and 16.

    CvT: Introducing Convolutions to Vision Transformers, arXiv 2103.15808, ``microsoft/CvT``.
    Differences from it: where its strided convolutions would drop the last rows or columns of a
    map, the map is padded; the projection ``'linear'`` runs. There is no position embedding.

    Args:
        arch: ``'13' '21' 'w24'``, or a dict. One value stands for all stages, a sequence sets each.
        out_indices: stages whose output comes out, without its class token and without a norm.
        num_classes: classes of the original's head, 0 for none. It reads the class token, or the
            mean of the patches where there is none.
        proj_norm_cfg: norms of the convolutional projection, default ``dict(type='BN')``.
        drop_path_rate: stochastic depth of the last stage's last block; in that stage it grows
            linearly from 0, the stages before have none, as published.
        with_cp: recompute blocks in the backward pass, see :class:`Backbone`.
        frozen_stages: -1 nothing, 0 the first token embedding, i the first i stages.

    Shapes:
        ``(N, in_channels, H, W)`` to ``(N, embed_dims[i], ceil(H / s), ceil(W / s))``, s = 4, 8
        and 16; with ``num_classes``, logits ``(N, num_classes)`` after them.

    Raises:
        ValueError: unknown arch, inconsistent settings, or an unfit image.
    """

    family = 'cvt'
    arch_type = CvTArch
    arch_settings = {
        '13': dict(embed_dims=(64, 192, 384), depths=(1, 2, 10), num_heads=(1, 3, 6)),
        '21': dict(embed_dims=(64, 192, 384), depths=(1, 4, 16), num_heads=(1, 3, 6)),
        'w24': dict(embed_dims=(192, 768, 1024), depths=(2, 2, 20), num_heads=(3, 12, 16)),
    }
    pretrained_parts = {'cvt': ''}
    embeddings = ('stages.0.patch_embed.', 'stages.0.cls_token')
    stages: Any  # ModuleList of Stage: torch gives its items no type

    def __init__(
        self,
        arch: str | dict = '13',
        *,
        out_indices: Sequence[int] = (0, 1, 2),
        num_classes: int = 0,
        proj_norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **options: Any,
    ):
        super().__init__(arch, out_indices=out_indices, **options)
        arch = self.arch
        self.num_stages = len(arch.depths)
        self.check_frozen_stages(self.num_stages)
        settings = [arch.stage(i) for i in range(self.num_stages)]

        norms = dict(proj_norm_cfg=proj_norm_cfg or dict(type='BN'), norm_cfg=arch.norm_cfg)
        self.stages = nn.ModuleList()
        channels = self.in_channels
        for i, stage in enumerate(settings):
            rate = drop_path_rate if i == self.num_stages - 1 else 0.0
            self.stages.append(Stage(channels, stage, drop_path_rate=rate, **norms))
            channels = stage.embed_dims
        self.norm = build_norm(arch.norm_cfg, channels) if num_classes else None
        self.head = nn.Linear(channels, num_classes) if num_classes else None
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

        self.levels = self.resolve_indices(self.num_stages)
        self.num_run = self.num_stages if num_classes else self.levels[-1] + 1
        self.out_channels = tuple(settings[level].embed_dims for level in self.levels)
        strides = arch.patch_strides
        self.out_strides = tuple(math.prod(strides[: level + 1]) for level in self.levels)
        self.freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.check_image(x)
        outs = []
        for level, stage in enumerate(self.stages[: self.num_run]):
            tokens, grid = stage.patch_embed(x)
            if stage.cls_token is not None:
                cls_token = stage.cls_token.expand(tokens.shape[0], -1, -1)
                tokens = torch.cat((cls_token.to(tokens.dtype), tokens), dim=1)
            for block in stage.blocks:
                tokens = self.run(block, tokens, grid)
            cls_token, patches = tokens.tensor_split((tokens.shape[1] - grid[0] * grid[1],), dim=1)
            x = patches.transpose(1, 2).unflatten(2, grid)  # (N, h w, C) -> (N, C, h, w)
            if level in self.levels:
                outs.append(x.contiguous())  # see Backbone.crop_map
        if self.head is not None and self.norm is not None:
            pooled = cls_token if cls_token.shape[1] else patches
            outs.append(self.head(self.norm(pooled).mean(dim=1)))
        return tuple(outs)

    # Training

    def frozen_modules(self) -> list[nn.Module | nn.Parameter]:
        frozen = list(self.stages[self.num_run :])
        if self.frozen_stages >= 0:
            frozen += [self.stages[0].patch_embed, *self.stages[: self.frozen_stages]]
        return frozen
