"""The convolutional branch beside a plain ViT."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import BLOCK, can_block, map_in_bands
from .norm import build_norm, is_pointwise
from .recompute import lean


class ConvPyramid(nn.Module):
    """Maps of width ``embed_dims`` at strides 4, 8, 16 and 32 of an image ``(N, C, H, W)``.

    The spatial prior of ViT-Adapter (arXiv 2205.08534) and the convolutional branch of ViT-CoMer:
    a stem of three 3x3 convolutions and a pooling, three strided 3x3 convolutions, and a projection
    of each of the four maps.

    ``forward`` returns the first map as it is before its projection, ``(N, stem_channels, H / 4,
    W / 4)``: what is largest is best made where it is needed, by :meth:`project_finest`. Without
    ``with_finest`` there is no such projection.
    """

    def __init__(
        self,
        in_channels: int,
        stem_channels: int,
        embed_dims: int,
        norm_cfg: dict,
        with_finest: bool = True,
    ):
        super().__init__()
        c = stem_channels
        self.stem = nn.Sequential(
            _conv_norm_relu(in_channels, c, 2, norm_cfg),
            _conv_norm_relu(c, c, 1, norm_cfg),
            _conv_norm_relu(c, c, 1, norm_cfg),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        widths = (c, 2 * c, 4 * c, 4 * c)
        self.stages = nn.ModuleList(
            _conv_norm_relu(fine, coarse, 2, norm_cfg)
            for fine, coarse in zip(widths[:-1], widths[1:], strict=True)
        )
        self.projections = nn.ModuleList(nn.Conv2d(width, embed_dims, 1) for width in widths)
        if not with_finest:
            self.projections[0] = None

    def forward(self, image: Tensor) -> list[Tensor]:
        # Channels-last convolutions are faster on CPUs, and their maps are tokens without a copy.
        maps = [self._finest(image.contiguous(memory_format=torch.channels_last))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        finest, *coarser = maps
        projections = self.projections[1:]
        return [finest, *(project(m) for project, m in zip(projections, coarser, strict=True))]

    def _finest(self, image: Tensor) -> Tensor:
        """What the stem makes of an image, where it saves time some rows after the other.

        Its maps of stride 2 are the largest of all, and nobody else needs them.
        """
        norms = [layer[1] for layer in self.stem[:-1]]
        if torch.is_grad_enabled():
            return self._lean_stem(image)
        if not (can_block(image) and all(map(is_pointwise, norms))):
            return self.stem(image)
        height, width = ((side + 3) // 4 for side in image.shape[2:])

        def band(first: int, last: int) -> Tensor:
            # A row depends on seven rows of the image above its own four, and on four below.
            low, high = max(first - 2, 0), last + 2
            return self.stem(image[:, :, 4 * low : 4 * high])[:, :, first - low : last - low]

        return map_in_bands(band, height, 1, (height, width), BLOCK // 2, torch.channels_last)

    def _lean_stem(self, image: Tensor) -> Tensor:
        """The stem, of which the backward pass keeps what its convolutions return alone."""
        *layers, pool = self.stem
        convs, norms, _ = zip(*layers, strict=True)
        x = convs[0](image)
        for norm, layer in zip(norms, (*convs[1:], pool), strict=True):
            x = lean(_norm_relu_layer, x, norm, layer, owner=norm)
        return x

    def project_finest(self, finest: Tensor) -> Tensor:
        """The map of stride 4, or some rows of it, in full width."""
        return self.projections[0](finest)


def _norm_relu_layer(x: Tensor, norm: nn.Module, layer: nn.Module) -> Tensor:
    return layer(F.relu(norm(x)))  # not in place: without its norm x is what is kept


def _conv_norm_relu(in_channels: int, channels: int, stride: int, norm_cfg: dict) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False),
        build_norm(norm_cfg, channels),
        nn.ReLU(inplace=True),
    )
