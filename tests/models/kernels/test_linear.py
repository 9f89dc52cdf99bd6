import importlib

import pytest
import torch
import torch.nn.functional as F

from mmhybrid.models.layers import Linear

kernel = importlib.import_module('mmhybrid.models.kernels.linear')
pytestmark = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, '_linear_pointwise')),
    reason='a torch without oneDNN',
)


@pytest.fixture(autouse=True)
def by_onednn(monkeypatch):
    monkeypatch.setattr(kernel, '_prefers_onednn', lambda: True)
    monkeypatch.setattr(kernel, 'LEAST', 1)


class Called(torch.utils._python_dispatch.TorchDispatchMode):
    """Names of the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func._schema.name)
        return func(*args, **(kwargs or {}))


def run(x, *parameters):
    """The name of the operator that a linear layer takes."""
    with Called() as called:
        kernel.linear(x, *parameters)
    (name,) = called.names & {'mmhybrid::linear', 'aten::addmm', 'aten::mm', 'aten::linear'}
    return name


@pytest.mark.parametrize('shape', [(7, 16), (2, 3, 16), (2, 3, 4, 16), (0, 3, 16)])
@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize('wanted', ['x', 'weight', 'bias', 'all'])
def test_values_and_gradients_are_torchs(shape, with_bias, wanted):
    tensors = dict(x=torch.randn(shape), weight=torch.randn(8, 16))
    if with_bias:
        tensors['bias'] = torch.randn(8)
    names = [name for name in tensors if wanted in (name, 'all')]
    for name in names:
        tensors[name].requires_grad_()
    out, expected = kernel.linear(**tensors), F.linear(**tensors)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    if names:
        grad = torch.randn_like(out)
        inputs = [tensors[name] for name in names]
        grads = [torch.autograd.grad(one, inputs, grad) for one in (out, expected)]
        torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)


def test_a_bias_with_gaps():
    x, weight, bias = torch.randn(5, 16), torch.randn(8, 16), torch.randn(8, 3)[:, 1]
    assert run(x, weight, bias) == 'mmhybrid::linear'
    torch.testing.assert_close(kernel.linear(x, weight, bias), F.linear(x, weight, bias))


def test_gradients_of_gradients():
    x, weight = torch.randn(5, 16, requires_grad=True), torch.randn(8, 16, requires_grad=True)
    seconds = []
    for linear in (kernel.linear, F.linear):
        (first,) = torch.autograd.grad(linear(x, weight).square().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), (x, weight)))
    torch.testing.assert_close(*seconds, rtol=1e-4, atol=1e-2)


def test_it_is_left_to_torch():
    x, weight = torch.randn(5, 16), torch.randn(8, 16)
    assert run(x, weight) == 'mmhybrid::linear'
    assert run(x.double(), weight.double()) != 'mmhybrid::linear'
    assert run(x[0], weight) != 'mmhybrid::linear'
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert run(x, weight) != 'mmhybrid::linear'
    with torch.backends.mkldnn.flags(enabled=False):
        assert run(x, weight) != 'mmhybrid::linear'
    with pytest.raises(RuntimeError, match='cannot be multiplied'):
        kernel.linear(x, weight.T)


def test_transforms_of_functions():
    layer, x = Linear(16, 8), torch.randn(3, 5, 16)
    torch.testing.assert_close(torch.func.vmap(layer)(x), layer(x))
    out, tangent = torch.func.jvp(layer, (x,), (x,))
    torch.testing.assert_close(tangent, F.linear(x, layer.weight))
    torch.testing.assert_close(out, layer(x))


def test_the_operator_is_well_formed():
    tensors = torch.randn(5, 16), torch.randn(8, 16), torch.randn(8)
    inputs = [tensor.requires_grad_() for tensor in tensors]
    checks = ('test_schema', 'test_autograd_registration')
    torch.library.opcheck(torch.ops.mmhybrid.linear, tuple(inputs), test_utils=checks)
