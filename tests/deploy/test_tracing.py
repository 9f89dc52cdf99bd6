"""Shapes that are computed while a model is traced are those of torch's operators."""

from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmhybrid.deploy import Graph
from mmhybrid.deploy.exporting import capture
from mmhybrid.deploy.tracing import shapes

aten = torch.ops.aten
X = torch.randn(2, 3, 5, 6)
ARGUMENTS = {
    aten.grid_sampler_2d.default: (X, torch.randn(2, 4, 7, 2), 0, 0, False),
    aten.native_layer_norm.default: (X, [5, 6], torch.ones(5, 6), None, 1e-6),
    aten.gelu.default: (X,),
}


@pytest.mark.parametrize('op', shapes(), ids=str)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_shapes_are_those_of_the_operators(op, dtype, memory_format):
    given = [x.to(dtype) if isinstance(x, torch.Tensor) else x for x in ARGUMENTS[op]]
    given[0] = given[0].contiguous(memory_format=memory_format)
    expected, found = op(*given), shapes()[op](None, *given)
    if isinstance(expected, torch.Tensor):
        expected, found = [expected], [found]
    assert len(expected) == len(found)
    for want, got in zip(expected, found, strict=True):
        assert (want.shape, want.dtype, want.stride()) == (got.shape, got.dtype, got.stride())


class Sampled(nn.Module):
    """An operator that torch would trace as a hundred."""

    def forward(self, image):
        return (F.grid_sample(image, image[:, :2].permute(0, 2, 3, 1), align_corners=False),)


def test_a_trace_does_not_decompose():
    graph = Graph(Sampled(), ['out'], torch.randn(2, 3, 33, 40), {0: 'batch', 2: 'h', 3: 'w'})
    with mock.patch('torch._decomp.decompositions._grid_sampler_2d', side_effect=AssertionError):
        program = capture(graph.module, graph)
    batch = torch.randn(1, 3, 50, 34)
    torch.testing.assert_close(program.module()(batch), graph.module(batch))
