"""Convolutions of maps that say what they compute in the form that is fastest."""

import torch
from torch import Tensor, nn


class PointwiseConv(nn.Linear):
    """A linear layer over the channels of maps ``(N, C, H, W)``, best kept channels-last."""

    def forward(self, x: Tensor) -> Tensor:
        # (N, C, H, W) -> (N, H, W, C) and back
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualDWConv(nn.Conv2d):
    """``x`` plus its 3x3 depth-wise convolution, ``(N, C, H, W)`` in and out.

    In full precision it is one convolution: a shortcut is a 1 in the kernel's centre, and saves a
    pass over the map. In less, small weights would be lost beside that 1.
    """

    def __init__(self, channels: int):
        super().__init__(channels, channels, 3, padding=1, groups=channels)
        identity = torch.zeros(1, 1, 3, 3)
        identity[..., 1, 1] = 1
        self.register_buffer('identity', identity, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        if autocast or self.weight.dtype.itemsize < 4:
            return x + super().forward(x)
        return self._conv_forward(x, self.kernel(), self.bias)

    def kernel(self) -> Tensor:
        """The kernel with the shortcut in it."""
        return self.weight + self.identity
