"""The kernels that torch's compiler schedules for a GPU that is not there."""

import torch
from torch import nn

from mmhybrid.inspect import CARDS, count_inference, count_step, imagined_gpu, to_imagined_gpu
from mmhybrid.inspect.compiled import count_compiled
from mmhybrid.models.kernels import deformable_attention

SHAPES = ((32, 40), (16, 20))


class Net(nn.Module):
    """A product between operators that are one kernel each time."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 64, bias=False)

    def forward(self, x):
        return (self.linear(x.sin().cos() + 1).relu() * 2,)


def test_what_is_fused():
    model = Net().eval()
    with imagined_gpu(CARDS['a100'], compiling=True), torch.no_grad():
        net = to_imagined_gpu(model)
        image = torch.randn(128, 64, device='cuda')
        before, product, after = count_compiled(net, image, CARDS['a100'])
    assert (before.name, product.name, after.name) == ('triton', 'aten::mm', 'triton')
    assert before.read + before.written == after.read + after.written == 2 * 128 * 64 * 4
    assert product.macs == 128 * 64 * 64 and before.macs == 0
    assert product.dtype == torch.float32


class Deformable(nn.Module):
    """Deformable attention between two linear layers and a norm."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.value, self.weight, self.out = nn.Linear(32, 32), nn.Linear(32, 12), nn.Linear(32, 32)

    def forward(self, tokens):
        n, length, _ = tokens.shape
        x = self.norm(tokens)
        value = self.value(x).view(n, length, 2, 16)
        weights = self.weight(x).view(n, length, 2, 6).softmax(-1).view(n, length, 2, 2, 3)
        locations = torch.stack((weights, 1 - weights), dim=-1)
        out = deformable_attention(value, SHAPES, locations, weights)
        return (tokens + self.out(out).relu(),)


def test_with_the_backward_pass():
    """It does the products of eager mode, in fewer launches and with fewer bytes."""
    card, model = CARDS['h200'], Deformable()
    length = sum(h * w for h, w in SHAPES)
    with imagined_gpu(card):
        to_imagined_gpu(model)
        tokens = torch.randn(2, length, 32, device='cuda')
        forward = count_inference(model, lambda: model(tokens))
        step = count_step(model, lambda: model(tokens)[0].sum())
    with imagined_gpu(card, compiling=True):
        to_imagined_gpu(model)
        tokens = torch.randn(2, length, 32, device='cuda')
        both = count_compiled(model, tokens, card)
        with torch.no_grad():
            alone = count_compiled(model, tokens, card)
    for eager, compiled in ((forward, alone), (step, both)):
        assert 0.2 * len(eager.launches) < len(compiled) < len(eager.launches)
        assert sum(one.macs for one in compiled) == eager.macs
        assert sum(one.read + one.written for one in compiled) < eager.moved
    names = [one.name for one in both]
    for name in ('deformable_sample', 'deformable_sample_gradients', 'deformable_value_gradient'):
        assert names.count(f'mmhybrid::{name}') == step.counts[f'mmhybrid::{name}'] == 1
