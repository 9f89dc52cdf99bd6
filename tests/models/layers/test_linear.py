"""Linear layers by oneDNN: equal numbers, and torch's own layer wherever that is to be seen."""

import pytest
import torch
import torch.autograd.forward_ad as fwAD
import torch.nn.functional as F
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from mmhybrid.models.layers import fast_linear, lean_linear, linear, run_linear

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason='a torch without oneDNN'
)


@pytest.fixture
def calls(monkeypatch):
    """Shapes of what oneDNN multiplies; it does so on any processor, however small the product."""
    torch.manual_seed(0)
    calls = []
    multiply = linear._multiply

    def listen(x, weight, bias):
        calls.append((tuple(x.shape), tuple(weight.shape)))
        return multiply(x, weight, bias)

    monkeypatch.setattr(linear, '_prefers_onednn', lambda: True)
    monkeypatch.setattr(linear, '_multiply', listen)
    monkeypatch.setattr(linear, 'LEAST', 1)
    return calls


class Names(TorchFunctionMode):
    """Hears which functions of torch are called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.seen.append(function.__name__)
        return function(*args, **(kwargs or {}))


def operands(*shape, out=7, requires_grad=False):
    x, weight = torch.randn(*shape), torch.randn(out, shape[-1])
    return [t.requires_grad_(requires_grad) for t in (x, weight, torch.randn(out))]


@pytest.mark.parametrize('shape', [(5,), (3, 5), (2, 3, 5), (2, 3, 4, 5), (2, 0, 5)])
@pytest.mark.parametrize('has_bias', [True, False])
def test_equals_torch(calls, shape, has_bias):
    x, weight, bias = operands(*shape)
    bias = bias if has_bias else None
    torch.testing.assert_close(fast_linear(x, weight, bias), F.linear(x, weight, bias))
    assert bool(calls) == bool(x.numel() and x.dim() > 1)


def test_takes_what_is_not_contiguous(calls):
    x, weight, bias = torch.randn(5, 6).T, torch.randn(5, 7).T, torch.randn(14)[::2]
    torch.testing.assert_close(fast_linear(x, weight, bias), F.linear(x, weight, bias))
    expanded = torch.randn(5).expand(3, 5)
    torch.testing.assert_close(fast_linear(expanded, weight), F.linear(expanded, weight))
    assert len(calls) == 2


@pytest.mark.parametrize('wanted', [(0, 1, 2), (0,), (1,), (2,)])
def test_gradients(calls, wanted):
    tensors = operands(2, 3, 5)
    for i in wanted:
        tensors[i].requires_grad_()
    inputs = [tensors[i] for i in wanted]
    grad = torch.randn(2, 3, 7)
    got = torch.autograd.grad(fast_linear(*tensors), inputs, grad)
    expected = torch.autograd.grad(F.linear(*tensors), inputs, grad)
    torch.testing.assert_close(got, expected)
    assert len(calls) == 1 + (0 in wanted)


@pytest.mark.parametrize('wanted', [(0, 1, 2), (0,), (1,), (2,), (1, 2)])
def test_keeps_what_the_gradients_need(calls, wanted):
    def kept(function):
        sizes = []
        with saved_tensors_hooks(lambda t: sizes.append(t.numel()), lambda t: t):
            function(*tensors)
        return sizes

    tensors = operands(3, 5)
    for i in wanted:
        tensors[i].requires_grad_()
    assert kept(fast_linear) == kept(F.linear)
    assert calls


def test_second_gradients(calls):
    def second(function):
        (of_x,) = torch.autograd.grad(function(x, weight, bias).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(of_x.square().sum(), (x, weight, bias))

    x, weight, bias = operands(3, 5, requires_grad=True)
    torch.testing.assert_close(second(fast_linear), second(F.linear), rtol=1e-4, atol=1e-5)
    assert calls


def test_runs_what_wraps_a_layer(calls):
    layer, x = nn.Linear(5, 7), torch.randn(3, 5)
    torch.testing.assert_close(run_linear(layer, x), layer(x))
    assert len(calls) == 1
    handle = layer.register_forward_hook(lambda layer, args, out: out + 1)
    torch.testing.assert_close(run_linear(layer, x), layer(x))
    handle.remove()
    wrapped = nn.Sequential(layer, nn.ReLU())
    torch.testing.assert_close(run_linear(wrapped, x), wrapped(x))
    assert len(calls) == 1


def test_leaves_other_numbers_to_torch(calls):
    x, weight, bias = operands(3, 5)
    for dtype in (torch.float64, torch.bfloat16):
        assert fast_linear(x.to(dtype), weight.to(dtype), bias.to(dtype)).dtype == dtype
    with torch.autocast('cpu', torch.bfloat16):
        assert fast_linear(x, weight, bias).dtype == torch.bfloat16
    with torch.backends.mkldnn.flags(enabled=False):
        fast_linear(x, weight, bias)
    assert fast_linear(x.to('meta'), weight.to('meta'), bias.to('meta')).is_meta
    torch.testing.assert_close(fast_linear(x, weight.to_sparse()), F.linear(x, weight))
    assert not calls


@pytest.mark.parametrize(
    'shapes',
    [((3, 6), (7, 5), (7,)), ((3, 5), (7, 5), (3,)), ((3, 5), (1, 7, 5), (7,))],
    ids=['x', 'bias', 'weight'],
)
def test_wrong_shapes_get_the_error_of_torch(calls, shapes):
    tensors = [torch.randn(shape) for shape in shapes]
    with pytest.raises(RuntimeError) as expected:
        F.linear(*tensors)
    with pytest.raises(RuntimeError) as got:
        fast_linear(*tensors)
    assert str(got.value) == str(expected.value)


def test_small_products_are_left_to_torch(calls, monkeypatch):
    monkeypatch.setattr(linear, 'LEAST', 3 * 5 * 7)
    fast_linear(*operands(3, 5))
    assert len(calls) == 1
    fast_linear(*operands(3, 5, out=6))
    assert len(calls) == 1


def test_counters_exporters_and_transforms_see_a_linear_layer(calls):
    x, weight, bias = operands(4, 5)
    with FlopCounterMode(display=False) as counter:
        fast_linear(x, weight, bias)
    assert counter.get_total_flops() == 2 * 4 * 5 * 7
    mapped = torch.vmap(fast_linear, (0, None, None))(x, weight, bias)
    torch.testing.assert_close(mapped, F.linear(x, weight, bias))
    traced = torch.jit.trace(lambda x: fast_linear(x, weight, bias), x, check_trace=False)
    assert 'aten::linear' in str(traced.graph)
    with fwAD.dual_level():
        dual = fast_linear(fwAD.make_dual(x, x), weight, bias)
        torch.testing.assert_close(fwAD.unpack_dual(dual).tangent, x @ weight.T)
    with Names() as names:
        fast_linear(x, weight, bias)
    assert 'linear' in names.seen
    drawn = torch.fx.symbolic_trace(lambda x: fast_linear(x, weight, bias))
    torch.testing.assert_close(drawn(x), F.linear(x, weight, bias))
    compiled = torch.compile(fast_linear, backend='eager', fullgraph=True)
    torch.testing.assert_close(compiled(x, weight, bias), F.linear(x, weight, bias))
    assert not calls


def test_lean_linear(calls):
    x = torch.randn(2, 3, 5, requires_grad=True)
    layer, norm = nn.Linear(5, 7), nn.LayerNorm(5)
    parameters = (x, *layer.parameters(), *norm.parameters())
    got = torch.autograd.grad(lean_linear(layer, x, norm).square().sum(), parameters)
    assert len(calls) == 2
    expected = torch.autograd.grad(layer(norm(x)).square().sum(), parameters)
    torch.testing.assert_close(got, expected)


def test_other_processors_keep_what_torch_chooses(monkeypatch):
    monkeypatch.setattr(linear, '_is_amd', lambda: False)
    assert not linear._prefers_onednn.__wrapped__()
    monkeypatch.setattr(linear, '_is_amd', lambda: True)
    monkeypatch.setattr(torch.backends.cpu, 'get_cpu_capability', lambda: 'AVX2')
    assert not linear._prefers_onednn.__wrapped__()
