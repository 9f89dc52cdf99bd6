import pytest
import torch
from mmengine.registry import MODELS

from mmhybrid.models.necks import BatchNormNeck


def test_maps_are_normalised_each_by_its_own():
    neck = BatchNormNeck([4, 8]).train()
    maps = [3 + 2 * torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4) - 1]
    outs = neck(maps)
    assert [out.shape for out in outs] == [m.shape for m in maps]
    for out in outs:
        torch.testing.assert_close(
            out.mean((0, 2, 3)), torch.zeros(out.shape[1]), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            out.var((0, 2, 3), correction=0), torch.ones(out.shape[1]), atol=1e-3, rtol=0
        )
    assert sum(p.numel() for p in neck.parameters()) == 2 * 12


def test_norms_by_config():
    neck = MODELS.build(
        dict(type='mmhybrid.BatchNormNeck', in_channels=[4], norm_cfg=dict(type='SyncBN'))
    )
    assert type(neck.norms[0]).__name__ == 'SyncBatchNorm'


def test_another_number_of_maps():
    with pytest.raises(
        ValueError, match='built for 1 maps, got 2; give in_channels one entry a map'
    ):
        BatchNormNeck([4])([torch.randn(1, 4, 2, 2)] * 2)
