"""Batch norms between the features of a frozen backbone and a linear head."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmhybrid.registry import MODELS

from ..layers import build_norm


@MODELS.register_module()
class BatchNormNeck(BaseModule):
    """A batch norm for each map, which a linear head on frozen features begins with.

    With MMSegmentation's ``FCNHead`` without convolutions behind it, it is the linear head that
    DINOv2 (arXiv 2304.07193) and DINOv3 (arXiv 2508.10104) are evaluated by.

    Args:
        in_channels: channels of each map.
        norm_cfg: the norms, default ``dict(type='BN')``.
        init_cfg: as in mmengine.

    Shapes:
        A sequence of ``(N, in_channels[i], h_i, w_i)`` to a tuple of the same.

    Raises:
        ValueError: another number of maps than ``in_channels`` has.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        *,
        norm_cfg: dict | None = None,
        init_cfg: dict | list | None = None,
    ):
        super().__init__(init_cfg)
        norm_cfg = dict(type='BN') if norm_cfg is None else norm_cfg
        self.norms = nn.ModuleList(build_norm(norm_cfg, width) for width in in_channels)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if len(maps) != len(self.norms):
            raise ValueError(
                f'BatchNormNeck was built for {len(self.norms)} maps, got {len(maps)}; give '
                'in_channels one entry a map'
            )
        return tuple(norm(it) for norm, it in zip(self.norms, maps, strict=True))
