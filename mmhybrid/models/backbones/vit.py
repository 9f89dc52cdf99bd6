"""Plain Vision Transformer, one class for the published families of weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmhybrid.lora import add_lora
from mmhybrid.registry import MODELS

from ..kernels import Grid
from ..layers import (
    Attention,
    DropPath,
    LayerScale,
    Mlp,
    PatchEmbed,
    RelativePositionBias,
    SwiGLU,
    build_norm,
    resize_positions,
    rotary_positions,
)
from .arch import Arch, option, per_stage
from .base import Backbone

SIZES = {
    't': dict(embed_dims=192, depth=12, num_heads=3),
    's': dict(embed_dims=384, depth=12, num_heads=6),
    'b': dict(embed_dims=768, depth=12, num_heads=12),
    'l': dict(embed_dims=1024, depth=24, num_heads=16),
    'g': dict(embed_dims=1536, depth=40, num_heads=24),
}
BEIT = dict(position='relative', layer_scale=0.1, mask_key_bias=True)
DINOV2 = dict(patch_size=14, pretrain_size=518, layer_scale=1.0, interpolate_offset=0.1)
DINOV2_REG = DINOV2 | dict(num_registers=4, interpolate_offset=0.0, interpolate_antialias=True)
EPS = dict(norm_cfg=dict(type='LN', eps=1e-5))
DINOV3 = EPS | dict(position='rope', num_registers=4, layer_scale=1e-5, mask_key_bias=True)
DINOV3_PLUS = DINOV3 | dict(ffn='swiglu', mlp_ratio=6)
DINOV3_7B = DINOV3_PLUS | dict(embed_dims=4096, depth=40, num_heads=32, mlp_ratio=3, qkv_bias=False)


class Block(nn.Module):
    """Pre-norm Transformer block: attention and feed-forward network, each a residual branch.

    Args:
        hidden_dims: hidden width of the feed-forward network.
        window, qkv_bias, mask_key_bias: see :class:`Attention`.
        layer_scale: initial value of LayerScale, None for none.
        relative_grid: training grid of BEiT's relative position bias, which windows replace by
            their own; None for no bias.
        relative_class_token: give that bias entries for a class token.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        hidden_dims: int,
        *,
        window: int,
        norm_cfg: dict,
        drop_path_rate: float,
        qkv_bias: bool = True,
        mask_key_bias: bool = False,
        layer_scale: float | None = None,
        ffn: Literal['mlp', 'swiglu'] = 'mlp',
        ffn_bias: bool = True,
        relative_grid: Grid | None = None,
        relative_class_token: bool = False,
    ):
        super().__init__()
        self.norm1 = build_norm(norm_cfg, embed_dims)
        self.attn = Attention(
            embed_dims,
            num_heads,
            window=window,
            # The adapters' authors pad tokens where positions are relative, projections elsewhere.
            pad_input=relative_grid is not None,
            qkv_bias=qkv_bias,
            mask_key_bias=mask_key_bias,
        )
        self.relative_bias = None
        if relative_grid is not None:
            bias_grid = (window, window) if window else relative_grid
            self.relative_bias = RelativePositionBias(
                bias_grid, num_heads, class_token=relative_class_token
            )
        self.norm2 = build_norm(norm_cfg, embed_dims)
        self.mlp = {'mlp': Mlp, 'swiglu': SwiGLU}[ffn](embed_dims, hidden_dims, bias=ffn_bias)
        self.ls1 = nn.Identity() if layer_scale is None else LayerScale(embed_dims, layer_scale)
        self.ls2 = nn.Identity() if layer_scale is None else LayerScale(embed_dims, layer_scale)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor, grid: Grid, rope: tuple[Tensor, Tensor] | None) -> Tensor:
        bias = None
        if self.relative_bias is not None:
            side = self.attn.window
            bias = self.relative_bias((side, side) if side else grid)
        x = x + self.drop_path(self.ls1(self.attn(self.norm1(x), grid, bias, rope)))
        return x + self.drop_path(self.ls2(self.mlp(self.norm2(x))))


@dataclass(frozen=True, kw_only=True)
class ViTSize(Arch):
    """Sizes of a plain Vision Transformer."""

    embed_dims: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_heads < 1 or self.embed_dims % self.num_heads:
            raise ValueError(
                f'num_heads={self.num_heads} does not divide embed_dims={self.embed_dims}'
            )


@dataclass(frozen=True, kw_only=True)
class ViTArch(ViTSize):
    """Architecture of a :class:`ViT`."""

    patch_size: int = option('side of a patch in pixels', 16)
    pretrain_size: int | Sequence[int] = option(
        'side in pixels, or height and width, of the image for which positions are learned', 224
    )
    position: Literal['absolute', 'relative', 'rope'] = option(
        "kind of position embedding, ``'relative'`` as in BEiT, ``'rope'`` as in DINOv3", 'absolute'
    )
    class_token: bool = option('put a class token before the patches', True)
    dist_token: bool = option('put a distillation token after it', False)
    num_registers: int = option('register tokens after them (DINOv2 reg, DINOv3)', 0)
    qkv_bias: bool = option('bias of the projection to queries, keys and values', True)
    mask_key_bias: bool = option("hold the keys' part of that bias at zero", False)
    layer_scale: float | None = option('initial value of LayerScale, None for none', None)
    ffn: Literal['mlp', 'swiglu'] = option('kind of feed-forward network', 'mlp')
    ffn_bias: bool = option('bias of its layers', True)
    interpolate_offset: float = option('added to the grid when DINOv2 resizes its positions', 0.0)
    interpolate_antialias: bool = option('resize positions with antialiasing', False)
    norm_cfg: dict = option('the layer norms', dict(type='LN', eps=1e-6))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.position == 'rope' and self.embed_dims // self.num_heads % 4:
            raise ValueError(
                f'rotary positions turn a head in four parts: {self.embed_dims // self.num_heads} '
                f'channels (embed_dims={self.embed_dims}, num_heads={self.num_heads}) are not four '
                'times some number'
            )
        if min(self.position_grid) < 1:
            raise ValueError(
                f'pretrain_size={self.pretrain_size} is smaller than patch_size={self.patch_size}: '
                'there would be no position to learn'
            )
        if self.position == 'relative' and (self.dist_token or self.num_registers):
            raise ValueError(
                'relative positions know patches and a class token only; set dist_token=False and '
                'num_registers=0'
            )

    @property
    def position_grid(self) -> Grid:
        """Rows and columns of patches for which positions are learned."""
        sides = per_stage('pretrain_size', self.pretrain_size, 2, 'side')
        return tuple(side // self.patch_size for side in sides)


@MODELS.register_module()
class ViT(Backbone):
    """Vision Transformer: the maps of its patch tokens after some of its blocks.

    An Image is Worth 16x16 Words, arXiv 2010.11929. The names of its parameters are those of the
    published weights, which load into it as they are: DeiT (``facebookresearch/deit``), AugReg
    (timm), MAE, BEiT and BEiTv2, DINOv2 and DINOv3; differences from each: none.

    Adapters wrap it, and ask it for three things: :meth:`embed`, :meth:`run_blocks`, and its widths
    (``embed_dims``, ``depth``, ``patch_size``, ``num_prefix_tokens``).

    Args:
        arch: name of an architecture, or a dict. ``'t' 's' 'b' 'l' 'g'`` are DeiT, AugReg and MAE;
            ``'beit_b' 'dinov2_s' 'dinov2_s_reg' 'dinov3_s'`` and others are as their weights need,
            ``'rope_t' 'rope_tplus'`` those of :class:`STA`.
        out_indices: the blocks whose output comes out; negative ones count from the last.
        windows: side of the attention windows in patches, 0 for global; a sequence sets each block.
            At the border they are padded as in the adapters' originals, see :class:`Attention`.
        final_norm: normalise the tokens of each output.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        with_cp: recompute blocks in the backward pass, see :class:`Backbone`.
        freeze: ``'vit'`` freezes all of it: it stays in evaluation mode, and keeps no graph.
        frozen_stages: -1 nothing, 0 the patch embedding and positions, i also the first i blocks.
        lora: ``dict(r=8)`` trains LoRA, not the weights, see :class:`~mmhybrid.lora.LoRA`.
        norm_eval: no effect, there is no batch norm; every backbone has it.

    Shapes:
        ``(N, in_channels, H, W)`` to a tuple of ``(N, embed_dims, ceil(H / patch_size),
        ceil(W / patch_size))``, all of stride ``patch_size``.

    Raises:
        ValueError: unknown arch, inconsistent settings, or an unfit image.
    """

    family = 'vit'
    arch_type = ViTArch
    arch_settings = {
        **SIZES,
        **{f'deit_{size}_distilled': SIZES[size] | dict(dist_token=True) for size in 'tsb'},
        'beit_b': SIZES['b'] | BEIT,
        'beit_l': SIZES['l'] | BEIT | dict(layer_scale=1e-5),
        **{f'dinov2_{size}': SIZES[size] | DINOV2 for size in 'sbl'},
        **{f'dinov2_{size}_reg': SIZES[size] | DINOV2_REG for size in 'sbl'},
        'dinov2_g': SIZES['g'] | DINOV2 | dict(ffn='swiglu'),
        'dinov2_g_reg': SIZES['g'] | DINOV2_REG | dict(ffn='swiglu'),
        **{f'dinov3_{size}': SIZES[size] | DINOV3 for size in 'tsbl'},
        **{f'dinov3_{size}plus': SIZES[size] | DINOV3_PLUS for size in 'sl'},
        'dinov3_hplus': dict(embed_dims=1280, depth=32, num_heads=20) | DINOV3_PLUS,
        'dinov3_7b': DINOV3_7B,
        'rope_t': SIZES['t'] | dict(position='rope'),
        'rope_tplus': dict(embed_dims=256, depth=12, num_heads=4, position='rope'),
    }
    pretrained_parts = {'vit': ''}
    embeddings = ('patch_embed.', 'pos_embed', 'cls_', 'dist_', 'register_')

    def __init__(
        self,
        arch: str | dict = 'b',
        *,
        out_indices: Sequence[int] = (-1,),
        windows: int | Sequence[int | None] = 0,
        final_norm: bool = False,
        drop_path_rate: float = 0.0,
        freeze: Literal['vit'] | None = None,
        lora: dict | None = None,
        **options: Any,
    ):
        super().__init__(arch, out_indices=out_indices, **options)
        arch = self.arch
        self.check_frozen_stages(arch.depth, 'blocks')
        if freeze not in (None, 'vit') or (freeze and lora):
            raise ValueError(f"freeze={freeze!r:.200}: expected None or 'vit', with lora None")
        self.is_frozen = freeze == 'vit'
        dims, self.patch_size = arch.embed_dims, arch.patch_size
        self.embed_dims, self.depth, self.num_heads = dims, arch.depth, arch.num_heads
        self.position, self.position_grid = arch.position, arch.position_grid
        self.resizing = dict(offset=arch.interpolate_offset, antialias=arch.interpolate_antialias)
        self.num_prefix_positions = int(arch.class_token) + int(arch.dist_token)
        self.num_prefix_tokens = self.num_prefix_positions + arch.num_registers
        prefix = {it: getattr(arch, it) for it in ('class_token', 'dist_token', 'num_registers')}
        self.windows = window_per_block(windows, arch.depth, **prefix)

        self.patch_embed = PatchEmbed(self.in_channels, dims, arch.patch_size)
        self.cls_token = _token(1, dims) if arch.class_token else None
        self.dist_token = _token(1, dims) if arch.dist_token else None
        self.register_tokens = _token(arch.num_registers, dims) if arch.num_registers else None
        self.pos_embed = None
        if arch.position == 'absolute':
            self.pos_embed = _token(self.num_prefix_positions + prod(self.position_grid), dims)

        self.blocks = nn.ModuleList(
            Block(
                dims,
                arch.num_heads,
                int(dims * arch.mlp_ratio),
                window=window,
                qkv_bias=arch.qkv_bias,
                mask_key_bias=arch.mask_key_bias,
                layer_scale=arch.layer_scale,
                ffn=arch.ffn,
                ffn_bias=arch.ffn_bias,
                norm_cfg=arch.norm_cfg,
                drop_path_rate=drop_path_rate * i / max(arch.depth - 1, 1),
                relative_grid=self.position_grid if arch.position == 'relative' else None,
                relative_class_token=arch.class_token,
            )
            for i, window in enumerate(self.windows)
        )
        self.norm = build_norm(arch.norm_cfg, dims) if final_norm else nn.Identity()
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

        self.levels = self.resolve_indices(arch.depth)
        self.out_channels = (dims,) * len(self.levels)
        self.out_strides = (arch.patch_size,) * len(self.levels)
        add_lora(self, lora)
        self.freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.check_image(x)
        tokens, grid = self.embed(self.pad_image(x, self.patch_size))
        outs, start = [], 0
        for level in self.levels:
            tokens = self.run_blocks(tokens, grid, start, level + 1)
            start = level + 1
            patches = self.norm(tokens)[:, self.num_prefix_tokens :]
            out = patches.transpose(1, 2).unflatten(2, grid)  # (N, h w, C) -> (N, C, h, w)
            outs.append(self.crop_map(out, x.shape[2:], self.patch_size))
        return tuple(outs)

    # For adapters

    def embed(self, image: Tensor) -> tuple[Tensor, Grid]:
        """Embed an image as tokens ``(N, num_prefix_tokens + h * w, C)`` with positions.

        Return them with their grid ``(h, w)``. ``patch_size`` has to divide the image's sides.
        """
        tokens, grid = self.patch_embed(image)
        prefix: list[Tensor] = [it for it in (self.cls_token, self.dist_token) if it is not None]
        if self.pos_embed is not None:
            count = self.num_prefix_positions
            prefix_positions, positions = self.pos_embed.tensor_split((count,), dim=1)
            positions = resize_positions(positions, self.position_grid, grid, **self.resizing)
            tokens = tokens + positions
            prefix = [torch.cat(prefix, dim=1) + prefix_positions] if prefix else []
        if self.register_tokens is not None:
            prefix.append(self.register_tokens)
        if prefix:
            first = torch.cat(prefix, dim=1).expand(tokens.shape[0], -1, -1)
            tokens = torch.cat((first.to(tokens.dtype), tokens), dim=1)
        return tokens, grid

    def run_blocks(self, tokens: Tensor, grid: Grid, start: int, stop: int) -> Tensor:
        """Run blocks ``start`` to ``stop - 1`` on tokens and return these."""
        rope = None
        if self.position == 'rope':
            dims = self.embed_dims // self.num_heads
            rope = rotary_positions(grid, dims, tokens.device)
        for block in self.blocks[start:stop]:
            tokens = self.run(block, tokens, grid, rope)
        return tokens

    # Training

    def frozen_modules(self) -> list[nn.Module | nn.Parameter]:
        if self.is_frozen:
            return [self]
        frozen: list[nn.Module | nn.Parameter] = list(self.blocks[self.levels[-1] + 1 :])
        if self.frozen_stages >= 0:
            tokens = (self.cls_token, self.dist_token, self.register_tokens, self.pos_embed)
            frozen += [self.patch_embed, *(token for token in tokens if token is not None)]
            frozen += self.blocks[: self.frozen_stages]
        return frozen


def window_per_block(
    windows: int | Sequence[int | None], depth: int, **prefix: int
) -> tuple[int, ...]:
    """Return the side of the attention windows of each block, 0 for global attention.

    Args:
        prefix: arguments that put tokens before the patches, 0 or False for none.

    Raises:
        ValueError: a sequence that has not one entry a block, or windows beside prefix tokens.
    """
    if isinstance(windows, int):
        windows = (windows,) * depth
    if len(windows) != depth:
        raise ValueError(
            f'windows has {len(windows)} entries for {depth} blocks; give one a block, or a single '
            'number'
        )
    present = {name: value for name, value in prefix.items() if value}
    if any(windows) and present:
        given = ', '.join(f'{name}={value}' for name, value in present.items())
        without = ', '.join(f'{name}={type(value)(0)}' for name, value in present.items())
        raise ValueError(f'window attention has no place for {given}; set {without}, or windows=0')
    return tuple(window or 0 for window in windows)


def _token(count: int, dims: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(1, count, dims), std=0.02))
