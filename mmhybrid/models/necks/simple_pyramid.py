"""Simple feature pyramid: a plain ViT's last map at several strides."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmhybrid.registry import MODELS

from ..layers import build_norm


@MODELS.register_module()
class SimplePyramid(BaseModule):
    """Simple feature pyramid of ViTDet: maps of several strides, each from the last map alone.

    Exploring Plain Vision Transformer Backbones for Object Detection, arXiv 2203.16527,
    ``facebookresearch/detectron2`` (``projects/ViTDet``); differences from it: maps of odd sides
    are halved rounding up. Finer maps come from 2x2 transposed convolutions, the coarser one from
    max pooling; each then passes a 1x1 and a 3x3 convolution with norms.

    Args:
        in_channels: channels of the map; a sequence, as other necks take it, counts by its last.
        out_channels: channels of the pyramid.
        strides: of the pyramid's maps, each twice the one before: from ``in_stride / 4`` on. Those
            beyond ``2 * in_stride`` are subsampled from the map before them, for anchors only.
        in_stride: stride of the map, the ViT's patch size.
        norm_cfg: the norms, default ``dict(type='LN2d', eps=1e-6)``.
        init_cfg: as in mmengine.

    Shapes:
        A sequence of maps, of which the last, ``(N, in_channels, h, w)``, is taken, to a tuple of
        ``(N, out_channels, h * in_stride / s, w * in_stride / s)``, s the strides.

    Raises:
        ValueError: strides that it cannot make, or a map of other channels.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int = 256,
        *,
        strides: Sequence[int] = (4, 8, 16, 32),
        in_stride: int = 16,
        norm_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        self.in_channels = in_channels if isinstance(in_channels, int) else in_channels[-1]
        self.out_channels = out_channels
        self.strides = tuple(strides)
        known = tuple(in_stride * 2**power / 4 for power in range(4 + len(self.strides)))
        start = known.index(self.strides[0]) if self.strides and self.strides[0] in known else 4
        if start > 3 or self.strides != known[start : start + len(self.strides)]:
            raise ValueError(
                f'strides={self.strides} of a pyramid from a map of stride {in_stride}: expected '
                f'a run of {", ".join(f"{stride:g}" for stride in known)}, which begins at '
                f'{known[3]:g} or before'
            )
        norm_cfg = dict(type='LN2d', eps=1e-6) if norm_cfg is None else norm_cfg
        self.levels = nn.ModuleList(
            self._build_level(in_stride / stride, norm_cfg)
            for stride in self.strides
            if stride <= 2 * in_stride
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        x = maps[-1]
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(
                f'SimplePyramid was built for a last map (N, {self.in_channels}, h, w), got '
                f"{tuple(x.shape)}; set in_channels to the backbone's out_channels"
            )
        outs = [level(x) for level in self.levels]
        while len(outs) < len(self.strides):
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)

    def _build_level(self, scale: float, norm_cfg: dict) -> nn.Sequential:
        """Build the layers of a map that is ``scale`` times as large as the input."""
        width = self.in_channels
        layers: list[nn.Module] = []
        if scale < 1:
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        while scale > 1:
            layers.append(nn.ConvTranspose2d(width, width // 2, 2, stride=2))
            width, scale = width // 2, scale / 2
            if scale > 1:
                layers += [build_norm(norm_cfg, width), nn.GELU()]
        for kernel in (1, 3):
            layers += [
                nn.Conv2d(width, self.out_channels, kernel, padding=kernel // 2, bias=False),
                build_norm(norm_cfg, self.out_channels),
            ]
            width = self.out_channels
        return nn.Sequential(*layers)
