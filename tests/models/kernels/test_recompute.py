import copy
import gc
from collections import Counter

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from mmhybrid.models.kernels import biased_attention, recompute, sample_around

LIGHT = pytest.mark.parametrize('light', [False, True], ids=['all', 'light'])
EXPENSIVE = {'convolution', 'addmm', 'bmm', 'sample_in_bags', 'biased_attention'}
CHEAP = {'native_layer_norm', 'gelu', 'softmax'}


class Net(nn.Module):
    """A layer of each kind, and something after the last product that keeps its result."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(8, 8, 9, padding=4)
        self.norm = nn.LayerNorm(8)
        self.fc1 = nn.Linear(8, 16)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(16, 8)
        self.bias = nn.Parameter(torch.randn(2, 12, 12))

    def forward(self, x):  # (N, 12, 8)
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        x = x + self.fc2(self.act(self.fc1(self.norm(x))))
        heads = x.unflatten(2, (2, 4))  # (N, 12, heads, D)
        q = heads.transpose(1, 2)
        x = x + biased_attention(q, q, q, self.bias, 0.5).transpose(1, 2).flatten(2).tanh()
        offsets = x[:, :, :4].view(len(x), 12, 2, 1, 1, 2)
        weights = x[:, :, :2].softmax(-1).view(len(x), 12, 2, 1, 1)
        points = torch.full((12, 2), 0.4)
        sampled = sample_around(heads, ((3, 4),), points, offsets, weights, 'embedding_bag')
        products = x @ sampled.tanh().transpose(1, 2)
        return products.softmax(-1)


class Calls(TorchDispatchMode):
    """Count the operators that run."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__.strip('_')] += 1
        return func(*args, **(kwargs or {}))


def gradients(module, run, x):
    x = x.detach().requires_grad_()
    out = run(x)
    return [out, *torch.autograd.grad(out.square().sum(), [x, *module.parameters()])]


@LIGHT
@pytest.mark.parametrize('dtype', [None, torch.bfloat16], ids=['float32', 'autocast'])
def test_gradients_are_those_of_the_module(light, dtype):
    net, x = Net(), torch.randn(2, 12, 8)
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        expected = gradients(net, net, x)
        found = gradients(net, lambda x: recompute(net, x, light=light), x)
    torch.testing.assert_close(found, expected)


@LIGHT
def test_operators_that_run_again(light):
    net, x = Net(), torch.randn(2, 12, 8, requires_grad=True)
    with Calls() as once:
        net(x)
    assert EXPENSIVE | CHEAP <= set(once.counts)
    calls = {}
    for name, run in (('plain', net), ('again', lambda x: recompute(net, x, light=light))):
        loss = run(x).square().sum()
        with Calls() as backward:
            loss.backward()
        calls[name] = backward.counts
    again = calls['again'] - calls['plain']
    assert set(again) & (EXPENSIVE | CHEAP) == CHEAP | (set() if light else EXPENSIVE)


@LIGHT
def test_less_is_kept(light):
    net, x = Net(), torch.randn(2, 12, 8, requires_grad=True)
    kept = {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        recompute(net, x, light=light)
    # Of what autograd sees; the results of products are kept beside it.
    assert {tensor.shape for tensor in kept.values()} == {x.shape}


@LIGHT
def test_without_gradients_the_module_just_runs(light):
    linear, calls = nn.Linear(4, 4), []
    linear.register_forward_hook(lambda *args: calls.append(torch.is_grad_enabled()))
    with torch.no_grad():
        assert not recompute(linear, torch.randn(2, 4), light=light).requires_grad
    assert calls == [False]


@LIGHT
def test_random_numbers_are_drawn_again(light):
    layers = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5), nn.Linear(16, 8), nn.Tanh())
    x, results = torch.randn(4, 16), []
    for run in (layers, lambda x: recompute(layers, x, light=light)):
        torch.manual_seed(0)
        results.append([*gradients(layers, run, x), torch.randn(1)])
    torch.testing.assert_close(*results)


@LIGHT
@pytest.mark.parametrize('momentum', [0.1, None])
def test_batch_norms_update_their_statistics_once(light, momentum):
    layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, momentum=momentum), nn.ReLU())
    once, x = copy.deepcopy(layers), torch.randn(8, 4)
    for _ in range(2):
        expected = gradients(once, once, x)
        torch.testing.assert_close(
            gradients(layers, lambda x: recompute(layers, x, light=light), x), expected
        )
    torch.testing.assert_close(layers.state_dict(), once.state_dict())
    assert layers[1].momentum == momentum


@LIGHT
def test_evaluation_before_the_backward_pass(light):
    """The second run is that of a training all the same."""
    layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
    x, results = torch.randn(8, 4), []
    for run in (layers, lambda x: recompute(layers, x, light=light)):
        layers.train()
        loss = run(x).square().sum()
        layers.eval()
        results.append(torch.autograd.grad(loss, list(layers.parameters())))
        assert not layers[1].training
    torch.testing.assert_close(*results)


def test_gradients_flow_twice():
    layers = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4))
    x = torch.randn(8, 4, requires_grad=True)
    loss = recompute(layers, x).square().sum()
    before = copy.deepcopy(layers.state_dict())
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    (second,) = torch.autograd.grad(loss, x)
    assert first.any()
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(layers.state_dict(), before)


def test_gradients_flow_once_where_products_are_kept():
    """Torch drops what it kept as it takes it, and says so."""
    net, x = Net(), torch.randn(2, 12, 8, requires_grad=True)
    loss = recompute(net, x, light=True).square().sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match='only allowed to backward once'):
        loss.backward()


class Use(nn.Module):
    """Layers, and what ``use`` makes of the input and their result."""

    def __init__(self, use, *layers):
        super().__init__()
        self.layers, self.use = nn.Sequential(*layers), use

    def forward(self, x):
        return self.use(x, self.layers(x))


def attend(x, qkv):
    # (N, L, 3 heads D) -> (3, N, heads, L, D)
    q, k, v = qkv.unflatten(2, (3, 4, -1)).permute(2, 0, 3, 1, 4)
    attended = nn.functional.scaled_dot_product_attention(q, k, v)
    return x + attended.transpose(1, 2).flatten(2)  # (N, heads, L, D) -> (N, L, heads D)


def storages():
    tensors = [t for t in gc.get_objects() if type(t) is torch.Tensor and t.is_floating_point()]
    storages = [t.untyped_storage() for t in tensors]
    return {storage.data_ptr(): storage.nbytes() // 4 for storage in storages}


@pytest.mark.parametrize(
    ('net', 'sizes'),
    [
        # The last result is added: no gradient reads it.
        (Use(torch.add, nn.Linear(64, 48), nn.Linear(48, 64)), [1, 48 * 48]),
        (Use(lambda x, y: y, nn.Linear(64, 48), nn.Linear(48, 64)), [1, 48 * 48]),
        (Use(torch.mul, nn.Linear(64, 48), nn.Linear(48, 64)), [48 * 48, 48 * 64]),
        (Use(torch.add, nn.Linear(64, 48), nn.LayerNorm(48), nn.Linear(48, 64), nn.LayerNorm(64)),
         [48 * 48, 48 * 64]),
        # The second convolution has 24 multiply-adds a value, the first has 80.
        (Use(torch.add, nn.Conv1d(16, 24, 5, padding=2), nn.Conv1d(24, 16, 1), nn.GELU()),
         [72 * 64]),
        # The gradient of attention reads its result; the maxima of its rows are kept with it.
        (Use(attend, nn.Linear(64, 192)), [3 * 4 * 16, 48 * 64, 48 * 192]),
    ],
)  # fmt: skip
def test_results_that_are_kept(net, sizes):
    x = torch.randn(3, 16, 64, requires_grad=True)
    before = storages()
    out = recompute(net, x, light=True)
    kept = storages()
    for known in (*before, out.data_ptr()):
        kept.pop(known, None)
    assert sorted(kept.values()) == sizes
    found = torch.autograd.grad(out.square().sum(), [x, *net.parameters()])
    torch.testing.assert_close([out, *found], gradients(net, net, x))


@LIGHT
def test_compiled(light):
    torch._dynamo.reset()
    layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 4))
    eager, x = copy.deepcopy(layers), torch.randn(8, 4)
    counter = CompileCounterWithBackend('aot_eager')
    run = torch.compile(
        lambda x: recompute(layers, x, light=light), backend=counter, fullgraph=True
    )
    torch.testing.assert_close(gradients(layers, run, x), gradients(eager, eager, x))
    torch.testing.assert_close(layers.state_dict(), eager.state_dict())
    assert counter.frame_count == 1
