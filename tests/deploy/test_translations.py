"""Runtimes recognise the operators of exported files as their own."""

import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from mmhybrid.deploy import Graph, load_exported
from mmhybrid.deploy.exporting import capture, compare, write


@pytest.mark.parametrize('approximate', ['none', 'tanh'])
def test_onnxruntime_fuses_gelu_with_the_bias_before_it(approximate, tmp_path):
    class Mlp(nn.Sequential):
        def forward(self, x):
            return (super().forward(x),)

    torch.manual_seed(0)
    mlp = Mlp(nn.Linear(6, 5), nn.GELU(approximate)).eval()
    graph = Graph(mlp, ['out'], torch.randn(2, 7, 6) * 3, {0: 'batch'}, size=(7, 6))
    path, optimized = tmp_path / 'mlp.onnx', tmp_path / 'optimized.onnx'
    write(capture(mlp, graph), graph, path)
    (agreement,) = compare(graph, load_exported(path), batches=(3,))
    assert agreement.worst < 1e-6

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(optimized)
    options.log_severity_level = 3
    ort.InferenceSession(str(path), options)
    found = {node.op_type for node in onnx.load(optimized).graph.node}
    assert (found == {'MatMul', 'BiasGelu'}) == (approximate == 'none')
