"""The work of a GPU that is not there: known numbers of small networks, bounds of ours."""

import pytest
import torch
from torch import nn

from mmhybrid import build_backbone
from mmhybrid.cli import benchmark
from mmhybrid.cli.count import count_mode
from mmhybrid.inspect import (
    CARDS,
    Launch,
    count_inference,
    count_step,
    imagined_gpu,
    least_time,
    to_imagined_gpu,
)
from mmhybrid.models.kernels import pyramid


@pytest.fixture
def gpu():
    with imagined_gpu(CARDS['h200']):
        yield torch.device('cuda')


def test_known_counts(gpu):
    net = to_imagined_gpu(nn.Sequential(nn.Linear(256, 512), nn.ReLU()))
    image = torch.randn(64, 256, device=gpu)
    counter = count_inference(net, lambda: net(image))
    linear, relu = counter.launches
    assert (linear.name, relu.name) == ('aten::addmm', 'aten::relu')
    weights = (256 + 1) * 512
    assert linear.read == 4 * (64 * 256 + weights) and linear.written == 4 * 64 * 512
    assert (relu.read, relu.written, relu.macs) == (4 * 64 * 512, 4 * 64 * 512, 0)
    assert counter.macs == linear.macs == 64 * 256 * 512
    assert counter.moved == linear.read + 3 * linear.written
    assert counter.largest == linear.written
    assert 'test_gpu.py' in counter.largest_place and '(64, 512)' in counter.largest_place
    assert counter.peak == 4 * weights + 2 * linear.written
    assert counter.host_copies == []


def test_memory_is_that_of_what_is_referred_to(gpu):
    x = torch.randn(1000, device=gpu)

    def chain():
        y = x
        for _ in range(5):
            y = y + 1
        views = [y.view(10, 100), y[:10]]
        return len(views)

    assert count_inference(nn.Identity(), chain).peak == 2 * 4000


def test_a_step_counts_both_passes(gpu):
    """The gradients of a depth-wise convolution cost as much as the convolution, each."""
    net = to_imagined_gpu(nn.Conv2d(8, 8, 3, padding=1, groups=8))
    image = torch.randn(1, 8, 16, 16, device=gpu, requires_grad=True)
    counter = count_step(net, lambda: net(image).sum())
    assert counter.macs == 3 * 8 * 9 * 16 * 16
    assert counter.counts['aten::convolution_backward'] == 1
    assert net.weight.grad is None


def test_copies_to_and_from_the_host_are_named(gpu):
    x = torch.randn(4, device=gpu)

    def run():
        assert x.sum().item() == 0
        if x.max() > 0:
            raise AssertionError('fake numbers are 0')
        assert x.nonzero().shape == (0, 1)
        x.cpu()
        return x + torch.tensor([1.0, 2, 3, 4], device=gpu)

    copies = count_inference(nn.Identity(), run).host_copies
    assert len(copies) == 5 and all('inspect/test_gpu.py:' in copy for copy in copies)
    names = [copy.split(',')[0].removeprefix('aten::') for copy in copies]
    assert names == [
        '_local_scalar_dense',
        '_local_scalar_dense',
        'nonzero',
        '_to_copy',
        '_to_copy',
    ]


def test_autocast_as_on_a_gpu(gpu):
    net = to_imagined_gpu(nn.Linear(16, 16))
    image = torch.randn(2, 16, device=gpu)

    def loss():
        with torch.autocast('cuda', torch.bfloat16):
            return net(image).float().sum()

    counter = count_step(net, loss)
    products = [launch for launch in counter.launches if launch.macs]
    assert {launch.dtype for launch in products} == {torch.bfloat16}
    assert counter.counts['aten::_to_copy'] >= 4  # image, weight and bias, the output; back


def test_the_least_time_is_that_of_what_bounds():
    card = CARDS['h200']
    large = Launch('aten::add', int(card.bandwidth) // 2, int(card.bandwidth) // 2, 0, None)
    product = Launch('aten::mm', 8, 8, int(card.throughput['bf16'] / 2), torch.bfloat16)
    small = Launch('aten::add', 8, 8, 0, torch.float32)
    seconds = least_time([large, product, small, small], card, launch_time=1e-3)
    assert seconds['memory'] == pytest.approx(1)
    assert seconds['products'] == pytest.approx(1)
    assert seconds['launch'] == pytest.approx(2e-3)
    convolution = Launch('aten::convolution', 8, 8, int(card.throughput['tf32']), torch.float32)
    assert least_time([convolution], card)['products'] == pytest.approx(2)


def test_nothing_fake_is_left_behind():
    with imagined_gpu(CARDS['a100']):
        pyramid.level_sizes([(2, 3)], torch.device('cuda'))
        assert torch.cuda.get_device_capability() == (8, 0)
        assert pyramid._kept_sizes.cache_info().currsize == 1
    assert pyramid._kept_sizes.cache_info().currsize == 0
    sizes = pyramid.level_sizes([(2, 3)], torch.device('cpu'))
    assert type(sizes) is torch.Tensor and sizes.tolist() == [[3, 2]]


# Launches, GB read and written, and MB in use at 512x512 in bfloat16 by autocast, of torch 2.12.
BOUNDS = dict(
    vitcomer_s=dict(infer=(1150, 5.12, 252), train=(2840, 13.9, 1340)),
    cmt_s=dict(infer=(1210, 2.76, 152), train=(2950, 7.4, 910)),
)


@pytest.mark.parametrize('name', BOUNDS)
def test_bounds(name):
    """They do not grow; where one shrinks by more than a fifth, its bound is lowered."""
    args = benchmark.parse_args([name, '--count', '--dtype', 'bf16'])
    model = build_backbone(name)
    for mode, bounds in BOUNDS[name].items():
        counter = count_mode(model, mode, args, CARDS['h200'])
        assert counter.host_copies == []
        found = (len(counter.launches), counter.moved / 1e9, counter.peak / 2**20)
        for what, bound in zip(found, bounds, strict=True):
            assert 0.8 * bound < what <= bound, (mode, found)
