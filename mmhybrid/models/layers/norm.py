"""Normalisation layers by config, without mmcv."""

from torch import Tensor, nn

BATCH_NORMS = {'BN': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm}
KNOWN = (*BATCH_NORMS, 'GN', 'LN', 'LN2d')


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of a map ``(N, C, H, W)``; channels-last maps are not copied."""

    def forward(self, x: Tensor) -> Tensor:
        # (N, C, H, W) -> (N, H, W, C) and back
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def build_norm(cfg: dict, channels: int) -> nn.Module:
    """Build a normalisation layer from a config in the form of the MM libraries.

    Args:
        cfg: ``dict(type='BN' | 'SyncBN' | 'GN' | 'LN' | 'LN2d', requires_grad=True, **arguments)``.
            ``GN`` needs ``num_groups``. ``LN`` normalises the last dimension, ``LN2d`` the channels
            of a map.
        channels: width of the normalised dimension.
    """
    arguments = dict(cfg)
    kind = arguments.pop('type', None)
    requires_grad = arguments.pop('requires_grad', True)
    if kind in BATCH_NORMS:
        norm = BATCH_NORMS[kind](channels, **arguments)
    elif kind == 'GN':
        if 'num_groups' not in arguments:
            raise ValueError(f'GN needs num_groups, got norm_cfg={cfg!r:.200}; add num_groups=32')
        norm = nn.GroupNorm(num_channels=channels, **arguments)
    elif kind == 'LN':
        norm = nn.LayerNorm(channels, **arguments)
    elif kind == 'LN2d':
        norm = LayerNorm2d(channels, **arguments)
    else:
        raise ValueError(f'unknown norm type {kind!r:.99} in norm_cfg; use one of {KNOWN}')
    norm.requires_grad_(requires_grad)
    return norm
