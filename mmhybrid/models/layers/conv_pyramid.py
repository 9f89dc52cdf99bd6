"""The convolutional branch beside a plain ViT."""

from torch import Tensor, nn

from .norm import build_norm


class ConvPyramid(nn.Module):
    """Maps of width ``embed_dims`` at strides 4, 8, 16 and 32 of an image ``(N, C, H, W)``.

    The spatial prior of ViT-Adapter (arXiv 2205.08534) and the convolutional branch of ViT-CoMer:
    a stem of three 3x3 convolutions and a pooling, three strided 3x3 convolutions, a projection of
    each map. That of stride 4, ``projections[0]``, is left to the caller, who needs it last.

    Args:
        in_channels: C.
        stem_channels: width of the stem.
        embed_dims: width of the maps.
        norm_cfg: norms of the convolutions.
        with_finest: have a projection of the map of stride 4.
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
            self.projections.add_module('0', None)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = [self.stem(image)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        finest, *others = maps
        return finest, *(p(m) for p, m in zip(self.projections[1:], others, strict=True))


def _conv_norm_relu(in_channels: int, channels: int, stride: int, norm_cfg: dict) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False),
        build_norm(norm_cfg, channels),
        nn.ReLU(),
    )
