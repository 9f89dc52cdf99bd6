"""Convolutions of maps with weights of their own form."""

from torch import Tensor, nn


class PointwiseConv(nn.Linear):
    """A 1x1 convolution of maps ``(N, C, H, W)`` with the weight ``(O, C)`` of a linear layer.

    Channels-last maps are not copied.
    """

    def forward(self, x: Tensor) -> Tensor:
        # (N, C, H, W) -> (N, H, W, C) and back
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualDWConv(nn.Conv2d):
    """``x`` plus its 3x3 depth-wise convolution, ``(N, C, H, W)`` in and out."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)
