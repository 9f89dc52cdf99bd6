"""ViT_C and ViT_P: a plain Vision Transformer behind a convolutional or a patchify stem."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from mmhybrid.registry import MODELS

from ..layers import build_norm, resize_positions
from .arch import option
from .base import Backbone
from .vit import Block, Grid, ViTSize, window_per_block


class ConvStem(nn.Module):
    """Convolutions, each with a norm and ReLU, then one without either to ``embed_dims``.

    The last one has the stride that is left to ``patch_size``, without overlap: a 1x1 convolution
    in the paper's convolutional stem, the whole patch where no other stands before it (patchify).

    Args:
        channels, kernels, strides: of the convolutions before the last. One whose kernel equals its
            stride is a patchify layer, not padded; the others are centred.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        patch_size: int,
        *,
        channels: Sequence[int],
        kernels: Sequence[int],
        strides: Sequence[int],
        norm_cfg: dict,
    ):
        super().__init__()
        self.layers = nn.ModuleList()
        left = patch_size
        for width, kernel, stride in zip(channels, kernels, strides, strict=True):
            padding = kernel // 2 if kernel > stride else 0
            conv = nn.Conv2d(in_channels, width, kernel, stride, padding, bias=False)
            nn.init.normal_(conv.weight, std=(2.0 / width) ** 0.5)
            self.layers.append(nn.Sequential(conv, build_norm(norm_cfg, width), nn.ReLU()))
            in_channels, left = width, left // stride
        self.proj = nn.Conv2d(in_channels, embed_dims, left, left)
        if channels:
            nn.init.normal_(self.proj.weight, std=embed_dims**-0.5)
        else:
            nn.init.trunc_normal_(self.proj.weight, std=self.proj.weight[0].numel() ** -0.5)
        nn.init.zeros_(self.proj.get_parameter('bias'))

    def forward(self, x: Tensor) -> tuple[Tensor, Grid]:
        """Embed images ``(N, C, H, W)`` as tokens ``(N, h * w, D)``, returned with their grid."""
        for layer in self.layers:
            x = layer(x)
        x = self.proj(x)
        grid = (x.shape[2], x.shape[3])
        return x.flatten(2).transpose(1, 2), grid  # (N, D, h, w) -> (N, h w, D)


SIZES = {
    '1gf': dict(embed_dims=192, num_heads=3, mlp_ratio=3),
    '4gf': dict(embed_dims=384, num_heads=6, mlp_ratio=3),
    '18gf': dict(embed_dims=768, num_heads=12),
    '36gf': dict(embed_dims=1024, num_heads=16),
}
FOUR_CONVS = dict(stem_strides=(2, 2, 2, 2))
SIX_CONVS = dict(stem_channels=(64, 128, 128, 256, 256, 512), stem_strides=(2, 2, 1, 2, 1, 2))
# Table 3 of the paper, at 4 GF: between the convolutional and the patchify stem lie stems that end
# with a patchify layer of 2, 4, 8 or 16 pixels. It prints 42 for S1's first width, but its FLOPs
# (422 M) and parameters are those of 52, which is also what doubling would give.
STEMS = {
    's1': dict(
        stem_channels=(52, 104, 208, 416), stem_kernels=(3, 3, 3, 2), stem_strides=(2, 2, 2, 2)
    ),
    's2': dict(
        stem_channels=(32, 64, 128, 256), stem_kernels=(3, 3, 3, 4), stem_strides=(2, 2, 1, 4)
    ),
    's3': dict(
        stem_channels=(17, 34, 68, 136), stem_kernels=(3, 3, 3, 8), stem_strides=(2, 1, 1, 8)
    ),
    's4': dict(
        stem_channels=(8, 16, 32, 64), stem_kernels=(3, 3, 3, 16), stem_strides=(1, 1, 1, 16)
    ),
}


@dataclass(frozen=True, kw_only=True)
class ConvStemViTArch(ViTSize):
    """Architecture of a :class:`ConvStemViT`."""

    stem_channels: Sequence[int] = option(
        "widths of the stem's convolutions before its last, see :class:`ConvStem`", ()
    )
    stem_kernels: Sequence[int] | None = option('their kernels; by default all are 3', None)
    stem_strides: Sequence[int] = option('their strides', ())
    stem_norm_cfg: dict = option(
        "norms of the stem; the paper tries ``dict(type='LN2d')`` too", dict(type='BN')
    )
    patch_size: int = option('stride of the whole stem', 16)
    pretrain_size: int = option('side in pixels of the image for which positions are learned', 224)
    class_token: bool = option('put a class token before the patches', True)
    norm_cfg: dict = option('the layer norms', dict(type='LN', eps=1e-5))

    def __post_init__(self) -> None:
        super().__post_init__()
        kernels = (3,) * len(self.stem_channels) if self.stem_kernels is None else self.stem_kernels
        self._set(stem_kernels=kernels)
        counts = {len(self.stem_channels), len(kernels), len(self.stem_strides)}
        if len(counts) > 1:
            raise ValueError(
                f'stem_channels={self.stem_channels!r:.99}, stem_kernels={kernels!r:.99} and '
                f'stem_strides={self.stem_strides!r:.99} differ in length; give each convolution '
                'one of each'
            )
        if self.patch_size % prod(self.stem_strides):
            raise ValueError(
                f'stem_strides={self.stem_strides!r:.99} multiply to {prod(self.stem_strides)}, '
                f'which does not divide patch_size={self.patch_size}'
            )
        for kernel, stride in zip(kernels, self.stem_strides, strict=True):
            if kernel != stride and (kernel < stride or kernel % 2 == 0):
                raise ValueError(
                    f'a convolution of the stem has kernel {kernel} and stride {stride}; expected '
                    'an odd kernel larger than its stride, or equal ones (a patchify layer)'
                )


@MODELS.register_module()
class ConvStemViT(Backbone):
    """ViT_C and ViT_P: the maps of a plain ViT's patch tokens after some of its blocks.

    Early Convolutions Help Transformers See Better, arXiv 2106.14881, ``facebookresearch/pycls``.
    ViT_C replaces the 16x16 patch convolution by a few 3x3 ones, and has one block fewer than
    ViT_P. Differences from the original: other image sizes, with resized positions.

    Args:
        arch: ``'c_1gf' 'c_4gf' 'c_18gf' 'c_36gf'``, the same with ``p``, the paper's stem
            ablations ``'s1_4gf'`` to ``'s4_4gf'``, or a dict.
        out_indices: the blocks whose output comes out; negative ones count from the last.
        windows: side of the attention windows in patches, 0 for global; a sequence sets each block.
        final_norm: normalise the tokens of each output.
        num_classes: classes of the original's head, 0 for none. It reads the class token, or the
            mean of the patches where there is none.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0.
        with_cp: recompute stem and blocks in the backward pass, see :class:`Backbone`.
        frozen_stages: -1 nothing, 0 the stem and positions, i also the first i blocks.
        norm_eval: keep the stem's batch norms in evaluation mode while training.

    Shapes:
        ``(N, in_channels, H, W)`` to a tuple of ``(N, embed_dims, ceil(H / patch_size),
        ceil(W / patch_size))``, all of stride ``patch_size``; with ``num_classes``, logits
        ``(N, num_classes)`` after them.

    Raises:
        ValueError: unknown arch, inconsistent settings, or an unfit image.
    """

    family = 'vit'
    arch_type = ConvStemViTArch
    arch_settings = {
        'c_1gf': SIZES['1gf'] | FOUR_CONVS | dict(depth=11, stem_channels=(24, 48, 96, 192)),
        'c_4gf': SIZES['4gf'] | FOUR_CONVS | dict(depth=11, stem_channels=(48, 96, 192, 384)),
        'c_18gf': SIZES['18gf'] | SIX_CONVS | dict(depth=11),
        'c_36gf': SIZES['36gf'] | SIX_CONVS | dict(depth=13),
        **{f'p_{size}': SIZES[size] | dict(depth=12) for size in ('1gf', '4gf', '18gf')},
        'p_36gf': SIZES['36gf'] | dict(depth=14),
        **{f'{name}_4gf': SIZES['4gf'] | stem | dict(depth=11) for name, stem in STEMS.items()},
    }
    pretrained_parts = {'conv_stem_vit': ''}
    embeddings = ('stem.', 'pos_embed', 'cls_token')
    blocks: Any  # ModuleList of Block: torch gives its items no type

    def __init__(
        self,
        arch: str | dict = 'c_4gf',
        *,
        out_indices: Sequence[int] = (-1,),
        windows: int | Sequence[int | None] = 0,
        final_norm: bool = False,
        num_classes: int = 0,
        drop_path_rate: float = 0.0,
        **options: Any,
    ):
        super().__init__(arch, out_indices=out_indices, **options)
        arch = self.arch
        self.check_frozen_stages(arch.depth, 'blocks')
        dims, side = arch.embed_dims, arch.pretrain_size // arch.patch_size
        self.embed_dims, self.depth, self.num_heads = dims, arch.depth, arch.num_heads
        self.patch_size, self.position_grid = arch.patch_size, (side, side)
        self.num_prefix_tokens = self.num_prefix_positions = int(arch.class_token)
        self.final_norm = final_norm
        windows = window_per_block(windows, arch.depth, class_token=arch.class_token)

        self.stem = ConvStem(
            self.in_channels,
            dims,
            arch.patch_size,
            channels=arch.stem_channels,
            kernels=arch.stem_kernels,
            strides=arch.stem_strides,
            norm_cfg=arch.stem_norm_cfg,
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dims)) if arch.class_token else None
        self.pos_embed = nn.Parameter(torch.empty(1, self.num_prefix_tokens + side * side, dims))
        self.blocks = nn.ModuleList(
            Block(
                dims,
                arch.num_heads,
                int(dims * arch.mlp_ratio),
                window=window,
                norm_cfg=arch.norm_cfg,
                drop_path_rate=drop_path_rate * i / max(arch.depth - 1, 1),
            )
            for i, window in enumerate(windows)
        )
        self.norm = build_norm(arch.norm_cfg, dims) if final_norm or num_classes else None
        self.head = nn.Linear(dims, num_classes) if num_classes else None
        self.reset_parameters()

        self.levels = self.resolve_indices(arch.depth)
        self.num_run = arch.depth if num_classes else self.levels[-1] + 1
        self.out_channels = (dims,) * len(self.levels)
        self.out_strides = (arch.patch_size,) * len(self.levels)
        self.freeze()

    def reset_parameters(self) -> None:
        """Initialise as the original does; the stem initialises itself."""
        nn.init.normal_(self.pos_embed, std=0.02)
        for block in self.blocks:
            nn.init.xavier_uniform_(block.attn.qkv.weight)
            nn.init.zeros_(block.attn.qkv.bias)
            nn.init.zeros_(block.attn.proj.bias)
            for linear in (block.mlp.fc1, block.mlp.fc2):
                nn.init.xavier_uniform_(linear.weight)
                nn.init.normal_(linear.bias, std=1e-6)
        if self.head is not None:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.check_image(x)
        tokens, grid = self.embed(self.pad_image(x, self.patch_size))
        outs, start = [], 0
        for level in self.levels:
            tokens = self.run_blocks(tokens, grid, start, level + 1)
            start = level + 1
            patches = tokens[:, self.num_prefix_tokens :]
            if self.norm is not None and self.final_norm:
                patches = self.norm(patches)
            out = patches.transpose(1, 2).unflatten(2, grid)  # (N, h w, C) -> (N, C, h, w)
            outs.append(self.crop_map(out, x.shape[2:], self.patch_size))
        if self.norm is not None and self.head is not None:
            tokens = self.norm(self.run_blocks(tokens, grid, start, self.depth))
            pooled = tokens[:, 0] if self.cls_token is not None else tokens.mean(dim=1)
            outs.append(self.head(pooled))
        return tuple(outs)

    def embed(self, image: Tensor) -> tuple[Tensor, Grid]:
        """Embed an image as tokens ``(N, num_prefix_tokens + h * w, C)`` with positions.

        Return them with their grid ``(h, w)``. ``patch_size`` has to divide the image's sides.
        """
        tokens, grid = self.run(self.stem, image)
        prefix, positions = self.pos_embed.tensor_split((self.num_prefix_tokens,), dim=1)
        tokens = tokens + resize_positions(positions, self.position_grid, grid)
        if self.cls_token is not None:
            cls_token = (self.cls_token + prefix).expand(tokens.shape[0], -1, -1)
            tokens = torch.cat((cls_token.to(tokens.dtype), tokens), dim=1)
        return tokens, grid

    def run_blocks(self, tokens: Tensor, grid: Grid, start: int, stop: int) -> Tensor:
        """Run blocks ``start`` to ``stop - 1`` on tokens and return these."""
        for block in self.blocks[start:stop]:
            tokens = self.run(block, tokens, grid, None)
        return tokens

    # Training

    def frozen_modules(self) -> list[nn.Module | nn.Parameter]:
        frozen: list[nn.Module | nn.Parameter] = list(self.blocks[self.num_run :])
        if self.frozen_stages >= 0:
            frozen += [self.stem, self.pos_embed, *self.blocks[: self.frozen_stages]]
            frozen += [] if self.cls_token is None else [self.cls_token]
        return frozen
