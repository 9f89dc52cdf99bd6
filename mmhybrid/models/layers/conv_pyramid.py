"""The convolutional branch beside a plain ViT."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import BLOCK, can_block, map_in_bands
from .norm import build_norm, is_pointwise


class Stem(nn.Sequential):
    """Three 3x3 convolutions and a pooling: ``(N, C, H, W)`` to ``(N, channels, H / 4, W / 4)``."""

    strides = (2, 1, 1, 2)

    def __init__(self, in_channels: int, channels: int, norm_cfg: dict):
        super().__init__(
            _conv_norm_relu(in_channels, channels, 2, norm_cfg),
            _conv_norm_relu(channels, channels, 1, norm_cfg),
            _conv_norm_relu(channels, channels, 1, norm_cfg),
            nn.MaxPool2d(3, stride=2, padding=1),
        )

    def forward(self, image: Tensor) -> Tensor:
        norms = [layer[1] for layer in list(self)[:-1]]
        if not (can_block(image) and all(map(is_pointwise, norms))):
            return super().forward(image)
        # Its maps of stride 2 are the largest of all, and nobody else needs them.
        n, _, h, w = image.shape
        size = (h + 3) // 4, (w + 3) // 4

        def band(first: int, last: int) -> Tensor:
            return self._rows(image, len(self), first, last)

        return map_in_bands(band, size[0], 1, size, BLOCK // 2, torch.channels_last)

    def _rows(self, image: Tensor, count: int, first: int, last: int) -> Tensor:
        """Rows ``first`` to ``last`` of what the first ``count`` layers make of the image."""
        if count == 0:
            return image[:, :, first:last]
        layer, stride = self[count - 1], self.strides[count - 1]
        height = image.shape[2] if count == 1 else (image.shape[2] + 1) // 2
        low, high = stride * first - 1, stride * (last - 1) + 2
        above, below = max(-low, 0), max(high - height, 0)
        x = self._rows(image, count - 1, low + above, high - below)
        if above or below:
            x = F.pad(x, (0, 0, above, below))
        if count == len(self):  # values are not negative, so that zeros leave the greatest alone
            return F.max_pool2d(x, 3, stride, padding=(0, 1))
        conv, norm, relu = layer
        return relu(norm(F.conv2d(x, conv.weight, conv.bias, stride, padding=(0, 1))))


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
        self.stem = Stem(in_channels, c, norm_cfg)
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
        maps = [self.stem(image.contiguous(memory_format=torch.channels_last))]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        finest, *coarser = maps
        projections = self.projections[1:]
        return [finest, *(project(m) for project, m in zip(projections, coarser, strict=True))]

    def project_finest(self, finest: Tensor) -> Tensor:
        """The map of stride 4, or some rows of it, in full width."""
        return self.projections[0](finest)


def _conv_norm_relu(in_channels: int, channels: int, stride: int, norm_cfg: dict) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False),
        build_norm(norm_cfg, channels),
        nn.ReLU(inplace=True),
    )
