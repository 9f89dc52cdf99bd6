import pytest
import torch

from mmhybrid.models.backbones import CMT
from mmhybrid.models.backbones.cmt import scale_arch
from tests.models.backbones.contract import BackboneContract

TINY = dict(
    embed_dims=(8, 16, 24, 32),
    stem_channels=8,
    depths=(1, 1, 2, 1),
    num_heads=(1, 2, 3, 4),
    sr_ratios=(8, 4, 2, 1),
    pretrain_size=64,
)
SINGLE = dict(
    embed_dims=(32,), stem_channels=8, depths=(4,), num_heads=(2,), sr_ratios=(1,), patch_sizes=(8,)
)


class TestCMT(BackboneContract):
    backbone = CMT
    arguments = dict(arch=TINY)
    channels = (8, 16, 24, 32)
    strides = (4, 8, 16, 32)
    stages = 4


class TestPatchStemAllLN(TestCMT):
    arguments = dict(arch=TINY, stem='patch', norm_cfg=dict(type='LN2d'))


class TestSingleStage(TestCMT):
    arguments = dict(arch=SINGLE)
    channels = (32,)
    strides = (16,)
    stages = 1


# From the original code, with its head and the bias of its training size.
@pytest.mark.parametrize(
    ('arch', 'total'),
    [('ti', 9_492_426), ('xs', 15_247_208), ('s', 26_256_160), ('b', 45_715_076)],
)
def test_parameter_counts_are_the_originals(arch, total):
    with torch.device('meta'):
        model = CMT(arch, num_classes=1000)
    assert sum(p.numel() for p in model.parameters()) == total
