"""Convolutions of maps that say what they compute in the form that is fastest."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .linear import fast_linear


class PointwiseConv(nn.Linear):
    """A linear layer over the channels of maps ``(N, C, H, W)``, best kept channels-last."""

    def forward(self, x: Tensor) -> Tensor:
        # (N, C, H, W) -> (N, H, W, C) and back
        return fast_linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


class ResidualDWConv(nn.Conv2d):
    """``x`` plus its 3x3 depth-wise convolution, ``(N, C, H, W)`` in and out.

    In full precision it is one convolution: a shortcut is a 1 in the kernel's centre, and saves a
    pass over the map. In less, small weights would be lost beside that 1.
    """

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        if autocast or self.weight.dtype.itemsize < 4:
            return x + super().forward(x)
        return self._conv_forward(x, self.kernel(), self.bias)

    def kernel(self) -> Tensor:
        """The kernel with the shortcut in it."""
        centre = torch.ones(1, 1, 1, 1, dtype=self.weight.dtype, device=self.weight.device)
        return self.weight + F.pad(centre, (1, 1, 1, 1))


class DoublingConv(nn.ConvTranspose2d):
    """Maps plus what a transposed convolution, 2x2 at stride 2, makes of maps half their size.

    Each small pixel becomes four, which is one matrix product, on a CPU faster than the
    convolution; its weights are that convolution's.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__(in_channels, channels, 2, stride=2)

    def projection(self) -> tuple[Tensor, Tensor]:
        """Weight ``(4 O, C)`` and bias of the product."""
        return self.weight.permute(2, 3, 1, 0).flatten(0, 2), self.bias.repeat(4)

    def forward(
        self, maps: Tensor, small: Tensor, projection: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """``(N, O, 2 h, 2 w)`` and ``(N, C, h, w)``, best channels-last, to the former's shape.

        ``projection`` is what :meth:`projection` returned, for callers that need it many times.
        """
        projection = self.projection() if projection is None else projection
        four = fast_linear(small.permute(0, 2, 3, 1), *projection)  # (N, h, w, 4 O)
        four = four.unflatten(3, (2, 2, -1)).transpose(2, 3)  # (N, h, 2, w, 2, O)
        maps = maps.permute(0, 2, 3, 1).unflatten(2, (-1, 2)).unflatten(1, (-1, 2))
        # (N, h, 2, w, 2, O) -> (N, O, 2 h, 2 w)
        return (maps + four).flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
