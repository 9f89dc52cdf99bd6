"""Batch norms that work through the weights of the convolution after them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmhybrid.models.layers import PointwiseConv, ResidualDWConv, gelu_norm_convs, recompute

CONVS = {
    'pointwise': lambda: PointwiseConv(12, 5),
    'depth-wise': lambda: nn.Conv2d(12, 12, 3, padding=1, groups=12),
    'with shortcut': lambda: ResidualDWConv(12),
    'dense': lambda: nn.Conv2d(12, 8, 3, padding=1),
    'patches': lambda: nn.Conv2d(12, 8, 2, stride=2),
    'large': lambda: nn.Conv2d(12, 8, 5, padding=2, bias=False),
    'one side': lambda: nn.Conv2d(12, 8, (1, 3), padding=(0, 1)),
    'uneven': lambda: nn.Conv2d(12, 8, (3, 5), stride=(1, 2), padding=(1, 2), groups=4),
}


def build(kind: str, dtype=torch.double) -> tuple[nn.BatchNorm2d, nn.Module]:
    torch.manual_seed(0)
    norm, conv = nn.BatchNorm2d(12), CONVS[kind]()
    nn.init.uniform_(norm.weight, -1, 2)
    nn.init.normal_(norm.bias)
    return norm.to(dtype), conv.to(dtype)


def run(function, x, norm, conv):
    """Output, gradients and statistics."""
    x = x.clone().requires_grad_()
    out = function(x, norm, conv)
    out.backward(torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out).cos())
    parameters = [*norm.parameters(), *conv.parameters()]
    return [out.detach(), x.grad, *(p.grad for p in parameters), *norm.buffers()]


def plain(x, norm, conv):
    return conv(norm(F.gelu(x)))


def is_folded(out):
    """Whether a function of ours is near the end of the graph."""
    node, names = out.grad_fn, []
    while node is not None:
        names.append(type(node).__name__)
        node = node.next_functions[0][0] if node.next_functions else None
    return any(name.startswith('GeluNorm') for name in names)


def folded(x, norm, conv):
    out = gelu_norm_convs(x, (norm, conv))
    assert is_folded(out)
    return out


@pytest.mark.parametrize('size', [(9, 7), (2, 3)])
@pytest.mark.parametrize('block', [None, 12 * 10])
@pytest.mark.parametrize('kind', CONVS)
def test_it_is_the_three_layers(kind, size, block, monkeypatch):
    if block:
        monkeypatch.setattr('mmhybrid.models.layers.norm_conv.BLOCK', block)
    x = torch.randn(2, 12, *size, dtype=torch.double) * 3 + 1
    layers = build(kind)
    torch.testing.assert_close(
        run(folded, x, *copy.deepcopy(layers)), run(plain, x, *layers), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize('kind', CONVS)
def test_it_is_as_exact_as_they_are_in_single_precision(kind):
    x = (torch.randn(2, 12, 40, 40) * 3 + 1).contiguous(memory_format=torch.channels_last)
    exact = run(plain, x.double(), *build(kind))
    errors = []
    for function in (plain, folded):
        got = run(function, x, *build(kind, torch.float))
        errors.append(
            [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(got, exact, strict=True)]
        )
    for theirs, ours in zip(*errors, strict=True):
        assert ours <= 4 * theirs + 2e-6


def test_no_norm_runs_and_the_input_alone_is_kept():
    norm, conv = build('pointwise', torch.float)
    x = torch.randn(2, 12, 8, 8, requires_grad=True)
    kept = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()), lambda t: t),
        torch.profiler.profile(acc_events=True) as profile,
    ):
        gelu_norm_convs(x, (norm, conv))
    assert 'aten::native_batch_norm' not in {event.name for event in profile.events()}
    assert [n for n in kept if n >= x.numel()] == [x.numel()]


@pytest.mark.parametrize(
    'options', [dict(dilation=2), dict(padding_mode='reflect'), dict(padding='same')]
)
def test_other_convolutions_run_as_they_are(options):
    norm, _ = build('dense')
    conv = nn.Conv2d(12, 8, 3, **{'padding': 1, **options}).double()
    x = torch.randn(2, 12, 9, 7, dtype=torch.double)
    layers = copy.deepcopy((norm, conv))
    torch.testing.assert_close(
        run(lambda x, *pair: gelu_norm_convs(x, pair), x, *layers), run(plain, x, norm, conv)
    )


@pytest.mark.parametrize(
    'case',
    [
        'evaluation',
        'not affine',
        'layer norm',
        'other momentum',
        'autocast',
        'one value',
        'wrapped',
        'less precision',
    ],
)
def test_where_it_does_not_fit_the_layers_run(case):
    norm, conv = build('pointwise', torch.float)
    x = torch.randn(2, 12, 4, 4, requires_grad=True)
    if case == 'evaluation':
        norm.eval()
    elif case == 'not affine':
        norm = nn.BatchNorm2d(12, affine=False)
    elif case == 'layer norm':
        norm = nn.GroupNorm(1, 12)
    elif case == 'other momentum':
        norm.momentum = None
    elif case == 'wrapped':
        conv = nn.Sequential(conv)
    elif case == 'less precision':
        norm, conv, x = norm.bfloat16(), conv.bfloat16(), x.detach().bfloat16().requires_grad_()
    elif case == 'one value':
        with pytest.raises(ValueError, match='more than 1 value per channel'):
            gelu_norm_convs(x[:1, :, :1, :1], (norm, conv))
        return
    with torch.autocast('cpu', enabled=case == 'autocast'):
        out = gelu_norm_convs(x, (norm, conv))
        expected = plain(x, copy.deepcopy(norm), conv)
    assert not is_folded(out)
    torch.testing.assert_close(out, expected)


def test_statistics_are_updated_once_when_it_is_computed_twice():
    norm, conv = build('with shortcut', torch.float)
    once = copy.deepcopy(norm)
    x = torch.randn(2, 12, 8, 8, requires_grad=True)
    once(F.gelu(x))
    recompute(lambda x: gelu_norm_convs(x, (norm, conv)), x, owner=norm).sum().backward()
    for name, value in once.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), value)


def test_without_gradients_the_memory_of_the_input_is_used():
    norm, conv = build('pointwise', torch.float)
    x = torch.randn(2, 12, 8, 8)
    expected = plain(x, norm.eval(), conv)
    with torch.no_grad():
        out = gelu_norm_convs(x, (norm, conv))
    torch.testing.assert_close(out, expected)


def chain(dtype=torch.double):
    """Pairs of layers, of both kinds at the beginning, in between and one after the other."""
    norms = [build('patches', dtype)[0] for _ in range(5)]
    convs = [
        PointwiseConv(12, 12),
        nn.Conv2d(12, 12, 3, padding=1, groups=3),
        PointwiseConv(12, 12, bias=False),
        PointwiseConv(12, 12),
        nn.Conv2d(12, 8, 2, stride=2),
    ]
    return [(norm, conv.to(dtype)) for norm, conv in zip(norms, convs, strict=True)]


def test_pairs_follow_each_other():
    results = []
    for function in (gelu_norm_convs, lambda x, *pairs: [x := plain(x, *p) for p in pairs][-1]):
        pairs = chain()
        x = torch.linspace(-3, 4, 2 * 12 * 9 * 7, dtype=torch.double).view(2, 12, 9, 7)
        x = x.sin().requires_grad_()
        out = function(x, *pairs)
        parameters = [p for layers in pairs for layer in layers for p in layer.parameters()]
        grad = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view_as(out).cos()
        # Twice: what is given back lies in no memory that is used again.
        grads = [torch.autograd.grad(out, [x, *parameters], grad, retain_graph=True) for _ in 'ab']
        torch.testing.assert_close(*grads, rtol=0, atol=0)
        buffers = [b for norm, _ in pairs for b in norm.buffers()]
        results.append([out.detach(), *grads[0], *buffers])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-11)


def test_of_pairs_each_input_alone_is_kept():
    pairs = chain(torch.float)
    x = torch.randn(2, 12, 8, 8, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()), lambda t: t):
        gelu_norm_convs(x, *pairs)
    assert [n for n in kept if n >= x.numel()] == [x.numel()] * len(pairs)


def test_a_norm_says_that_one_value_was_left():
    shrinking, last = build('patches', torch.float), build('pointwise', torch.float)
    shrinking[1].weight.data = torch.randn(12, 12, 2, 2)
    shrinking[1].bias.data = torch.zeros(12)
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        gelu_norm_convs(torch.randn(1, 12, 2, 2, requires_grad=True), shrinking, last)
