"""What layers keep for the backward pass, and how they run without one."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mmhybrid.models.layers import (
    LayerScale,
    Mlp,
    SwiGLU,
    blocks,
    contiguous_map,
    in_blocks,
    lean,
    lean_linear,
    map_in_bands,
)
from mmhybrid.models.layers.deformable_bags import prepare_bags
from mmhybrid.models.layers.lean_linear import gated_silu


def kept(function, *args) -> int:
    """Values that autograd holds on to after a call, besides parameters."""
    count = 0

    def pack(tensor):
        nonlocal count
        count += 0 if isinstance(tensor, nn.Parameter) else tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        function(*args)
    return count


def test_lean_keeps_the_input_alone_and_repeats_no_product():
    norm, linear = nn.LayerNorm(16), nn.Linear(16, 64)
    products = []
    linear.register_forward_hook(lambda *args: products.append(1))
    plain, thrifty = (torch.randn(2, 9, 16, requires_grad=True) for _ in range(2))
    thrifty.data.copy_(plain)

    def chain(x):
        return linear(norm(x)).tanh()

    gradients = []
    for x, run in ((plain, chain), (thrifty, lambda x: lean(lambda x: linear(norm(x)), x).tanh())):
        run(x).square().sum().backward()
        gradients.append([x.grad, linear.weight.grad.clone(), norm.weight.grad.clone()])
        linear.zero_grad()
        norm.zero_grad()
    torch.testing.assert_close(*gradients)
    assert len(products) == 2  # the second pass stopped before it
    x = plain.detach().requires_grad_()
    assert kept(lambda x: lean(lambda x: linear(norm(x)), x), x) < kept(
        lambda x: linear(norm(x)), x
    )


@pytest.mark.parametrize('bias', [True, False])
def test_a_scale_works_through_the_weights(bias):
    linear, scale = nn.Linear(16, 8, bias=bias).double(), LayerScale(8, 1.0).double()
    nn.init.normal_(scale.gamma)
    x = torch.randn(2, 50, 16, dtype=torch.double, requires_grad=True)
    wanted = [x, scale.gamma, *linear.parameters()]
    results = []
    for run in (lambda x: scale(linear(x)), lambda x: lean_linear(linear, x, scale=scale)):
        out = run(x)
        results.append([out, *torch.autograd.grad(out.square().sum(), wanted)])
        del out
    torch.testing.assert_close(*results)
    assert kept(lambda: lean_linear(linear, x, scale=scale)) == x.numel()
    with torch.no_grad():
        assert torch.equal(lean_linear(linear, x, scale=scale), scale(linear(x)))


@pytest.mark.parametrize('what', ['a hook', 'a frozen scale', 'bfloat16', 'another layer'])
def test_scales_that_stay_a_layer(what):
    linear, scale = nn.Linear(16, 8), LayerScale(8, 0.5)
    seen = []
    if what == 'a hook':
        linear.register_forward_hook(lambda *args: seen.append(1))
    elif what == 'a frozen scale':
        scale.requires_grad_(False)
    elif what == 'bfloat16':
        linear, scale = linear.bfloat16(), scale.bfloat16()
    else:
        linear = nn.Sequential(linear)
    x = torch.randn(4, 16, dtype=scale.gamma.dtype)
    x.requires_grad_()
    out = lean_linear(linear, x, scale=scale)
    out.sum().backward()
    assert len(seen) == (what == 'a hook')  # no second pass
    assert torch.equal(out, scale(linear(x)))


BEFORE = {
    'nothing': lambda: (),
    'a norm': lambda: (nn.LayerNorm(16),),
    'two norms': lambda: (nn.LayerNorm(16), nn.LayerNorm(16, bias=False)),
    'GELU': lambda: (F.gelu,),
    'a gate': lambda: (gated_silu,),
    'a norm and GELU': lambda: (nn.LayerNorm(16), F.gelu),
    'another function': lambda: (torch.tanh,),
    'a norm with a hook': lambda: (hooked(nn.LayerNorm(16)),),
}


def hooked(layer):
    layer.register_forward_hook(lambda *args: None)
    return layer


@pytest.mark.parametrize('frozen', ['none', 'input', 'linear', 'all but the input'])
@pytest.mark.parametrize('scaled', [False, True])
@pytest.mark.parametrize('before', BEFORE)
def test_a_lean_linear_layer_has_autograds_gradients(before, scaled, frozen):
    before = BEFORE[before]()
    linear = nn.Linear(8 if gated_silu in before else 16, 6)
    scale = LayerScale(6, 1.0) if scaled else None
    layers = nn.ModuleList(m for m in (*before, linear, scale) if isinstance(m, nn.Module))
    layers.double()
    for parameter in layers.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 9, 16, dtype=torch.double, requires_grad=frozen != 'input')
    linear.requires_grad_(frozen not in ('linear', 'all but the input'))
    if frozen == 'all but the input':
        layers.requires_grad_(False)
    wanted = [t for t in (x, *layers.parameters()) if t.requires_grad]

    def plain(x):
        for layer in before:
            x = layer(x)
        x = linear(x)
        return x if scale is None else scale(x)

    results = []
    for run in (plain, lambda x: lean_linear(linear, x, *before, scale=scale)):
        out = run(x)
        results.append([out, *torch.autograd.grad(out.square().sum(), wanted)])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize('kind', ['bfloat16', 'autocast'])
def test_a_lean_linear_layer_of_less_precision(kind):
    norm, linear, scale = nn.LayerNorm(16), nn.Linear(16, 6), LayerScale(6, 0.5)
    layers = nn.ModuleList((norm, linear, scale))
    x = torch.randn(2, 9, 16)
    if kind == 'bfloat16':
        layers, x = layers.bfloat16(), x.bfloat16()
    x.requires_grad_()
    gradients = []
    for run in (
        lambda: scale(linear(F.gelu(norm(x)))),
        lambda: lean_linear(linear, x, norm, F.gelu, scale=scale),
    ):
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=kind == 'autocast'):
            out = run()
        gradients.append(torch.autograd.grad(out.float().square().sum(), [x, *layers.parameters()]))
    for one, other in zip(*gradients, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).abs().max() <= 0.03 * one.abs().max()


def test_changed_weights_are_noticed():
    norm, linear = nn.LayerNorm(16), nn.Linear(16, 6)
    out = lean_linear(linear, torch.randn(3, 16), norm)
    with torch.no_grad():
        norm.weight.mul_(2)
    with pytest.raises(RuntimeError, match='modified by an inplace operation'):
        out.sum().backward()


@pytest.mark.parametrize('network', [Mlp, SwiGLU])
def test_a_feed_forward_network_keeps_two_things(network):
    mlp, norm, scale = network(16, 64), nn.LayerNorm(16), LayerScale(16, 0.5)
    x = torch.randn(2, 50, 16, requires_grad=True)
    hidden = (mlp.fc1 if network is Mlp else mlp.w12).out_features
    assert kept(lambda: mlp(x, norm, scale)) == x.numel() + 100 * hidden
    torch.testing.assert_close(mlp(x, norm, scale), scale(mlp(norm(x))))


def test_lean_draws_the_same_random_numbers_again():
    layers = nn.Sequential(nn.Dropout(0.5), nn.Linear(16, 8))
    x = torch.randn(4, 16, requires_grad=True)
    gradients = []
    for run in (layers, lambda x: lean(layers, x)):
        torch.manual_seed(0)
        out = run(x)
        after = torch.get_rng_state()
        torch.randn(1)
        wanted = [x, *layers.parameters()]
        results = [torch.autograd.grad(out.square().sum(), wanted, retain_graph=True) for _ in 'ab']
        torch.testing.assert_close(*results)
        gradients.append([*results[0], after, torch.randn(1)])
    torch.testing.assert_close(*gradients)


def test_lean_updates_batch_norms_once():
    norm, once = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    x = torch.randn(8, 4)
    once(x)
    lean(lambda x: norm(x).relu(), x.requires_grad_(), owner=norm).sum().backward()
    torch.testing.assert_close(norm.state_dict(), once.state_dict())


def test_gradients_flow_twice_through_what_lean_computed():
    norm, linear = nn.BatchNorm1d(4), nn.Linear(4, 4)
    x = torch.randn(8, 4, requires_grad=True)
    out = lean(lambda x: linear(norm(x).relu()), x, owner=norm).square().sum()
    before = norm.num_batches_tracked.clone()
    (first,) = torch.autograd.grad(out, x, retain_graph=True)
    (second,) = torch.autograd.grad(out, x)
    assert first.abs().sum() > 0
    torch.testing.assert_close(first, second)
    assert norm.num_batches_tracked == before and norm.momentum == 0.1


@pytest.mark.parametrize('reuse', [False, True])
def test_blocks_cover_all_tokens(monkeypatch, reuse):
    monkeypatch.setattr(blocks, 'TOKENS', 2 * 64 * 3)
    x, points = torch.randn(2, 150, 3), torch.randn(150, 2)
    before, lengths = x.clone(), []

    def function(x, points):
        lengths.append(x.shape[1])
        return x * 2, points.expand(len(x), -1, -1).sum(-1, keepdim=True)

    with torch.no_grad():
        doubled, sums = in_blocks(function, x, points, reuse=reuse)
    assert lengths == [64, 64, 22]
    assert torch.equal(doubled, 2 * before)
    assert torch.equal(sums, points.sum(-1, keepdim=True).expand(2, -1, -1))
    assert (doubled.data_ptr() == x.data_ptr()) == reuse
    lengths.clear()
    function_alone = in_blocks(lambda x: function(x, points)[0], x.requires_grad_())
    assert lengths == [150]  # with gradients, all at once
    assert function_alone.requires_grad


def test_lent_memory_is_used_again(monkeypatch):
    monkeypatch.setattr(blocks, '_lent', blocks._Lent())
    monkeypatch.setattr(blocks, 'MAX_LENT', 100)
    like = torch.empty(0)

    def place(tensor):
        return tensor.data_ptr()

    with torch.inference_mode():
        first = blocks.borrow(like, 10, 10)
    assert first.shape == (10, 10)
    mine = place(first)
    assert place(blocks.borrow(like, 3, 10)) != mine  # which is lent
    del first
    assert place(blocks.borrow(like, 3, 10)) == mine
    assert not blocks.borrow(like, 3, 10).is_inference()
    assert place(blocks.borrow(like.double(), 10, 10)) != mine
    large, other = blocks.borrow(like, 11, 10), blocks.borrow(like, 11, 10)
    assert place(large) != place(other)
    with FakeTensorMode():
        blocks.borrow(torch.empty(0), 10, 10)
    assert type(blocks.borrow(like, 10, 10)) is torch.Tensor
    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(blocks.borrow, like, 10, 10).result()
    assert place(theirs) != mine


def test_two_samplers_at_a_time():
    shapes = ((4, 4), (2, 2))
    values = torch.randn(2, 1, 20, 2, 8).unbind()
    locations, weights = torch.rand(1, 5, 2, 2, 3, 2), torch.rand(1, 5, 2, 2, 3)
    with torch.no_grad():
        samplers = [prepare_bags(value, shapes) for value in values]
        samples = [sample(locations, weights) for sample in samplers]
        alone = [prepare_bags(value, shapes)(locations, weights) for value in values]
    torch.testing.assert_close(samples, alone, rtol=0, atol=0)


@pytest.mark.parametrize('n', [0, 1, 3])
@pytest.mark.parametrize('cropped', [False, True])
def test_a_map_becomes_contiguous_row_by_row(n, cropped, monkeypatch):
    monkeypatch.setattr(blocks, 'BLOCK', 64)
    level = torch.randn(n, 5, 9, 7).contiguous(memory_format=torch.channels_last)
    if cropped:
        level = level[:, :, :8, :6]
    with torch.no_grad():
        out = contiguous_map(level)
    assert out.is_contiguous()
    assert torch.equal(out, level)
    level.requires_grad_()
    grad = torch.randn(level.shape)
    contiguous_map(level).backward(grad)
    assert torch.equal(level.grad, grad)
    if n == 1 and not cropped:
        assert torch.autograd.gradgradcheck(
            contiguous_map, level.detach().double().requires_grad_()
        )


@pytest.mark.parametrize('size', [(12, 5), (10, 5), (7, 3), (1, 1)])
def test_bands_are_cropped_to_one_map(size, monkeypatch):
    monkeypatch.setattr(blocks, 'BLOCK', 2 * 3 * 5 * 2)  # two steps of two rows, after the first
    whole = torch.randn(2, 3, 12, 5).contiguous(memory_format=torch.channels_last)
    seen = []

    def function(first, last):
        seen.append((first, last))
        return whole[:, :, 2 * first : 2 * last]

    out = map_in_bands(function, 6, 2, size)
    assert out.is_contiguous()
    assert torch.equal(out, whole[:, :, : size[0], : size[1]])
    assert seen[0] == (0, 1) and seen[-1][1] * 2 >= size[0]
    assert all(last <= 6 for _, last in seen)


def test_the_gradient_of_a_contiguous_map_is_channels_last():
    formats = []
    level = torch.randn(2, 5, 9, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    level.register_hook(
        lambda grad: formats.append(grad.is_contiguous(memory_format=torch.channels_last))
    )
    contiguous_map(level).square().sum().backward()
    assert formats == [True]
