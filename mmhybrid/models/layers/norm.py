"""Normalisation layers by config, without mmcv."""

from torch import nn

BATCH_NORMS = {'BN': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm}
KNOWN = (*BATCH_NORMS, 'GN', 'LN')


def build_norm(cfg: dict, channels: int) -> nn.Module:
    """Build a normalisation layer the way the MM libraries write it.

    Args:
        cfg: ``dict(type='BN' | 'SyncBN' | 'GN' | 'LN', requires_grad=True, **arguments)``. ``GN``
            needs ``num_groups``. ``LN`` normalises the last dimension.
        channels: width of the normalised dimension.
    """
    arguments = dict(cfg)
    kind = arguments.pop('type', None)
    requires_grad = arguments.pop('requires_grad', True)
    if kind in BATCH_NORMS:
        norm = BATCH_NORMS[kind](channels, **arguments)
    elif kind == 'GN':
        if 'num_groups' not in arguments:
            raise ValueError(f'GN needs num_groups, got norm_cfg={cfg}; add num_groups=32')
        norm = nn.GroupNorm(num_channels=channels, **arguments)
    elif kind == 'LN':
        norm = nn.LayerNorm(channels, **arguments)
    else:
        raise ValueError(f'unknown norm type {kind!r} in norm_cfg={cfg}; use one of {KNOWN}')
    norm.requires_grad_(requires_grad)
    return norm
