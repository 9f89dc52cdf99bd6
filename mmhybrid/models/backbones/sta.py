"""STA: a plain ViT and a light convolutional stem, joined once at each level."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mmhybrid.registry import MODELS

from ..kernels import resize_map
from ..layers import build_norm
from .adapter import Adapter, init_layer
from .arch import Arch, option, per_stage
from .vit import ViT


class ConvBranch(nn.Module):
    """Maps of strides 4, 8, 16 and 32 of an image ``(N, C, H, W)``, of 1, 2, 4 and 4 times a width.

    A map comes out as its norm returns it: GELU stands before the convolutions to strides 16 and
    32, and none before that to stride 8, for the stem ends with one.

    Args:
        in_channels: C.
        channels: width of the stem.
        count: number of maps, the finest first.
        norm_cfg: norms of the convolutions.
    """

    def __init__(self, in_channels: int, channels: int, count: int, norm_cfg: dict):
        super().__init__()
        widths = [channels * times for times in (1, 2, 4, 4)[:count]]
        self.stem = nn.Sequential(
            *_conv_norm(in_channels, channels, norm_cfg),
            nn.GELU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.stages = nn.ModuleList()
        for fine, coarse in pairwise(widths):
            act = [nn.GELU()] if len(self.stages) else []
            self.stages.append(nn.Sequential(*act, *_conv_norm(fine, coarse, norm_cfg)))
        self.widths = widths

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = [self.stem(image)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return tuple(maps)


@dataclass(frozen=True, kw_only=True)
class STAArch(Arch):
    """Architecture of an :class:`STA`."""

    vit: str | dict
    final_norm: bool = option("normalise the ViT's maps by its final norm", True)
    interaction_indexes: Sequence[int] | None = option(
        'the blocks of the ViT whose maps are taken, one each for strides 8, 16 and 32, or one for '
        'all; by default those at a half, three quarters and the end of its depth',
        None,
    )
    stem_channels: int = option('width of the convolutional stem', 32)
    out_dims: int | None = option("channels of the maps, by default the ViT's width", None)

    def __post_init__(self) -> None:
        super().__post_init__()
        taken: Any = self.interaction_indexes
        if taken is not None:
            taken = taken[0] if isinstance(taken, Sequence) and len(taken) == 1 else taken
            taken = per_stage('interaction_indexes', taken, 3, 'level')
            self._set(interaction_indexes=taken)

    def blocks(self, depth: int) -> tuple[int, ...]:
        """Return the blocks whose maps are taken for strides 4, 8, 16 and 32, of ``depth``."""
        taken = self.interaction_indexes
        if taken is None:
            taken = (depth // 2 - 1, 3 * depth // 4 - 1, depth - 1)
        if not all(-depth <= block < depth for block in taken):
            raise ValueError(
                f'interaction_indexes={tuple(taken)!r:.200}: expected blocks of the ViT, 0 to '
                f'{depth - 1}'
            )
        fine, *others = (block % depth for block in taken)
        return (fine, fine, *others)


@MODELS.register_module()
class STA(Adapter):
    """STA, the spatial tuning adapter: a plain ViT joined to a convolutional map at each level.

    Real-Time Object Detection Meets DINOv3, arXiv 2509.20787, ``Intellindust-AI-Lab/DEIMv2``.
    Differences from it: batch norm where it writes SyncBN (``norm_cfg`` sets it), a level of stride
    4 if asked for, and images whose sides 32 does not divide are padded and the maps cropped.

    The ViT is wrapped, not changed. Its maps after three of its blocks are resized to strides 8, 16
    and 32; each is joined to the convolutional map of its level by a 1x1 convolution with a norm.

    Args:
        arch: ``'s' 'm'``, over ViT-Tiny and ViT-Tiny+ with rotary positions, ``'l' 'x'``, over
            DINOv3-S and S+, or a dict, in which ``vit`` is what :class:`ViT` takes as its ``arch``.
        vit: arguments of the :class:`ViT`, in place of those that ``arch`` says, such as
            ``dict(arch='dinov2_b_reg', patch_size=16)``.
        out_indices: levels that come out, of strides 4, 8, 16 and 32; the published models have no
            stride 4, for which the ViT's map of stride 8 is taken.

    Shapes:
        ``(N, in_channels, H, W)`` to ``(N, out_dims, ceil(H / s), ceil(W / s))``, s = 8 to 32, or
        4 to 32.

    Raises:
        ValueError: unknown arch, inconsistent settings, or an unfit image.
    """

    family = 'sta'
    arch_type = STAArch
    arch_settings = {
        's': dict(vit='rope_t', final_norm=False, interaction_indexes=(3, 7, 11), stem_channels=16),
        'm': dict(
            vit='rope_tplus', final_norm=False, interaction_indexes=(3, 7, 11), stem_channels=16
        ),
        'l': dict(vit='dinov3_s', stem_channels=32, out_dims=224),
        'x': dict(vit='dinov3_splus', stem_channels=64, out_dims=256),
    }
    pretrained_parts = {'vit': 'vit.', 'sta': ''}
    set_here = ('out_indices',)

    def __init__(
        self, arch: str | dict = 'l', *, out_indices: Sequence[int] = (1, 2, 3), **options: Any
    ):
        super().__init__(arch, out_indices=out_indices, **options)
        self.blocks = self.arch.blocks(self.vit.depth)
        dims = self.arch.out_dims or self.vit.embed_dims
        self.out_channels = (dims,) * len(self.levels)
        self.cnn = ConvBranch(
            self.in_channels, self.arch.stem_channels, self.levels[-1] + 1, self.norm_cfg
        )
        self.fusions = nn.ModuleDict()
        for level in self.levels:
            width = self.vit.embed_dims + self.cnn.widths[level]
            conv = nn.Conv2d(width, dims, 1, bias=False)
            self.fusions[str(level)] = nn.Sequential(conv, build_norm(self.norm_cfg, dims))
        for part in (self.cnn, self.fusions):
            part.apply(init_layer)
        self.freeze()

    def vit_arguments(self, given: dict) -> dict:
        """Let the ViT return the maps that the levels take."""
        settings = dict(arch=self.arch.vit, final_norm=self.arch.final_norm) | given
        blocks = self.arch.blocks(ViT.resolve_arch(settings['arch']).depth)
        return settings | dict(out_indices=sorted({blocks[level] for level in self.levels}))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        self.check_image(x)
        image = self.pad_image(x, 32)

        features = dict(zip(self.vit.levels, self.vit(image), strict=True))
        maps = self.run(self.cnn, image)

        outs = []
        for level, stride in zip(self.levels, self.out_strides, strict=True):
            feature = features[self.blocks[level]]
            # As the convolutions' maps lie in memory, and so what is made of both.
            feature = feature.contiguous(memory_format=torch.channels_last)
            feature = resize_map(feature, tuple(maps[level].shape[2:]))
            joined = torch.cat((feature, maps[level]), dim=1)
            out = self.run(self.fusions[str(level)], joined)
            outs.append(self.crop_map(out, x.shape[2:], stride))
        return tuple(outs)


def _conv_norm(in_channels: int, channels: int, norm_cfg: dict) -> tuple[nn.Module, nn.Module]:
    """Make a 3x3 convolution of stride 2 and its norm."""
    conv = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1, bias=False)
    return conv, build_norm(norm_cfg, channels)
